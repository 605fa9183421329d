/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_AML_H
#define ARCH_X86_64_AML_H

/*
 * A writer of ACPI Machine Language (ACPI 6.4, chapter 20), as much of it as our DSDT needs.
 *
 * It appends to a buffer of the caller. What does not fit sets `overflow`, after which nothing is
 * written any more; so a caller checks once, at the end. Things that contain others come in pairs:
 *
 *     size_t device = aml_device_begin(&aml, "PCI0");
 *     aml_name_integer(&aml, "_UID", 0);
 *     aml_end(&aml, device);
 *
 * Names are ASL paths without spaces: "_CRS", "\\_SB.PWRB"; segments of fewer than four characters
 * are padded. They, like all arguments, are our own constants: a wrong one is a bug and asserts.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
    unsigned char *buf;
    size_t cap;
    size_t len;
    bool overflow;
};

void aml_init(struct aml *aml, void *buf, size_t cap);

/* Each begin returns a mark for its end. Packages and buffers stand where a value is expected. */
size_t aml_scope_begin(struct aml *aml, const char *path);
size_t aml_device_begin(struct aml *aml, const char *name);
size_t aml_method_begin(struct aml *aml, const char *name, unsigned args, bool serialized);
size_t aml_if_arg0_is_begin(struct aml *aml, uint64_t value); /* If (Arg0 == value) */
size_t aml_package_begin(struct aml *aml, unsigned elements);
void aml_end(struct aml *aml, size_t mark);

/* Values. */
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);
void aml_eisa_id(struct aml *aml, const char *id); /* "PNP0A08" */

/* Name (name, value). aml_name() alone is followed by the value. */
void aml_name(struct aml *aml, const char *name);
void aml_name_integer(struct aml *aml, const char *name, uint64_t value);
void aml_name_string(struct aml *aml, const char *name, const char *text);
void aml_name_eisa_id(struct aml *aml, const char *name, const char *id);

void aml_notify(struct aml *aml, const char *path, uint64_t value);

/* A resource template (ACPI 6.4, 6.4): a buffer of descriptors, of at most 255 bytes. */
size_t aml_resources_begin(struct aml *aml);
void aml_resources_end(struct aml *aml, size_t mark);
void aml_io(struct aml *aml, uint16_t port, uint8_t len);
void aml_interrupt_edge(struct aml *aml, uint32_t gsi); /* edge, active high, exclusive, consumer */
void aml_memory32_fixed(struct aml *aml, uint32_t gpa, uint32_t len);
void aml_bus_range(struct aml *aml, uint16_t first, uint16_t last);    /* producer */
void aml_memory32_window(struct aml *aml, uint32_t gpa, uint32_t len); /* producer */
void aml_memory64_window(struct aml *aml, uint64_t gpa, uint64_t len); /* producer */

#endif
