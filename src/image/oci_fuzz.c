/* SPDX-License-Identifier: Apache-2.0 */
#include "image/oci.h"
#include "image/skopeo.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct oci_manifest manifest;
    struct oci_config config;
    struct oci_descriptor descriptor;
    struct oci_ref ref;
    struct dayfly_err err;
    oci_index_parse((const char *)data, len, &descriptor, &err);
    if (oci_manifest_parse((const char *)data, len, &manifest, &err) == 0)
        oci_manifest_finish(&manifest);
    if (oci_config_parse((const char *)data, len, &config, &err) == 0)
        oci_config_finish(&config);
    char *text = strndup((const char *)data, len);
    if (text && oci_ref_parse(text, &ref, &err) == 0 && !ref.by_digest) {
        /* A canonical name is its own canonical name. */
        struct oci_ref again;
        if (oci_ref_parse(ref.name, &again, &err) || strcmp(again.name, ref.name) != 0)
            abort();
    }
    struct skopeo_place place;
    char message[80];
    if (text && skopeo_place_parse(text, &place, &err) == 0 && place.text[0] == '-')
        abort();
    if (text)
        skopeo_fatal_message(text, message, sizeof(message));
    free(text);
    return 0;
}
