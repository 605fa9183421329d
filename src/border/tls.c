/* SPDX-License-Identifier: Apache-2.0 */
#include "border/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/err.h"

/* A guest's clock may be behind; a machine may run for long. Some clients take no longer a time. */
#define BEFORE_S (24 * 60 * 60)
#define AFTER_S  (365 * 24 * 60 * 60)

#define CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20" /* of TLS 1.2 */

struct tls {
    const struct swap *swap;
    SSL_CTX *server, *client;
    EVP_PKEY *leaf_key;
    X509 *leaves[SWAP_HOSTS_MAX];
};

static const unsigned char http1[] = "\x08http/1.1";
#define HTTP1_BYTES (sizeof(http1) - 1)

/* ---- certificates ---- */

static int add_extension(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_nconf_nid(NULL, ctx, nid, value);
    int ok = extension && X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

/* What all of ours have in common. Not signed yet. */
static X509 *new_cert(EVP_PKEY *key, const char *name, X509_NAME *issuer)
{
    unsigned char serial[16];
    X509 *cert = X509_new();
    if (!cert || RAND_bytes(serial, sizeof(serial)) != 1) {
        X509_free(cert);
        return NULL;
    }
    serial[0] &= 0x7f; /* a positive number */
    BIGNUM *number = BN_bin2bn(serial, sizeof(serial), NULL);
    X509_NAME *subject = X509_get_subject_name(cert);
    /* A common name has at most 64 characters; who is meant stands in the alternative names. */
    int ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) &&
             X509_set_version(cert, X509_VERSION_3) && X509_set_pubkey(cert, key) &&
             X509_gmtime_adj(X509_getm_notBefore(cert), -BEFORE_S) &&
             X509_gmtime_adj(X509_getm_notAfter(cert), AFTER_S) &&
             X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1,
                                        -1, 0) &&
             X509_set_issuer_name(cert, issuer ? issuer : subject);
    BN_free(number);
    if (!ok) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

/* What is permitted of one kind of name leaves the other kinds as they were (RFC 5280, 4.2.1.10). */
#define NO_ADDRESSES "excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:::/::"

/* "permitted;DNS:a,permitted;DNS:b," and the above */
static char *constraints_for(const struct swap *swap)
{
    size_t size = sizeof(NO_ADDRESSES);
    for (unsigned i = 0; i < swap->host_count; i++)
        size += strlen(swap->hosts[i]) + sizeof("permitted;DNS:,");
    char *text = malloc(size), *p = text;
    for (unsigned i = 0; text && i < swap->host_count; i++)
        p += snprintf(p, size - (size_t)(p - text), "permitted;DNS:%s,", swap->hosts[i]);
    if (text)
        strcpy(p, NO_ADDRESSES);
    return text;
}

static X509 *make_ca(const struct swap *swap, EVP_PKEY *key)
{
    X509V3_CTX ctx;
    X509 *cert = new_cert(key, "Dayfly border, for one job", NULL);
    char *names = constraints_for(swap),
         value[SWAP_HOSTS_MAX * (NET_NAME_BYTES + 16) + sizeof(NO_ADDRESSES) + 16];
    int ok = cert && names;
    if (ok) {
        snprintf(value, sizeof(value), "critical,%s", names);
        X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
        ok = add_extension(cert, &ctx, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
             add_extension(cert, &ctx, NID_key_usage, "critical,keyCertSign") &&
             add_extension(cert, &ctx, NID_subject_key_identifier, "hash") &&
             add_extension(cert, &ctx, NID_name_constraints, value) &&
             X509_sign(cert, key, EVP_sha256()) > 0;
    }
    free(names);
    if (!ok) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

static X509 *make_leaf(const char *host, EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key)
{
    X509V3_CTX ctx;
    char name[NET_NAME_BYTES + 8];
    X509 *cert = new_cert(key, "a secret's host", X509_get_subject_name(ca));
    if (!cert)
        return NULL;
    snprintf(name, sizeof(name), "DNS:%s", host);
    X509V3_set_ctx(&ctx, ca, cert, NULL, NULL, 0);
    if (add_extension(cert, &ctx, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(cert, &ctx, NID_key_usage, "critical,digitalSignature") &&
        add_extension(cert, &ctx, NID_ext_key_usage, "serverAuth") &&
        add_extension(cert, &ctx, NID_subject_key_identifier, "hash") &&
        add_extension(cert, &ctx, NID_authority_key_identifier, "keyid:always") &&
        add_extension(cert, &ctx, NID_subject_alt_name, name) &&
        X509_sign(cert, ca_key, EVP_sha256()) > 0)
        return cert;
    X509_free(cert);
    return NULL;
}

static int write_pem(X509 *cert, char out[static TLS_CA_PEM_BYTES])
{
    char *text;
    BIO *bio = BIO_new(BIO_s_mem());
    int ok = bio && PEM_write_bio_X509(bio, cert);
    long len = ok ? BIO_get_mem_data(bio, &text) : 0;
    ok = len > 0 && len < TLS_CA_PEM_BYTES;
    if (ok) {
        memcpy(out, text, (size_t)len);
        out[len] = '\0';
    }
    BIO_free(bio);
    return ok;
}

/* The authority's key is needed no more once the hosts have their certificates. */
static int make_certs(struct tls *tls, char ca_pem[static TLS_CA_PEM_BYTES])
{
    EVP_PKEY *ca_key = EVP_EC_gen("P-256");
    X509 *ca = ca_key ? make_ca(tls->swap, ca_key) : NULL;
    tls->leaf_key = EVP_EC_gen("P-256");
    int ok = ca && tls->leaf_key && write_pem(ca, ca_pem);
    for (unsigned i = 0; ok && i < tls->swap->host_count; i++) {
        tls->leaves[i] = make_leaf(tls->swap->hosts[i], tls->leaf_key, ca, ca_key);
        ok = tls->leaves[i] != NULL;
    }
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    return ok;
}

/* ---- the guest's side ---- */

/* By the name that is asked for, and by no other way: without one there is no certificate. */
static int choose_host(SSL *ssl, int *alert, void *opaque)
{
    struct tls *tls = opaque;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    int host = name ? swap_host(tls->swap, name, strlen(name)) : -1;
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    if (host < 0 || SSL_use_certificate(ssl, tls->leaves[host]) != 1 ||
        SSL_use_PrivateKey(ssl, tls->leaf_key) != 1)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    SSL_set_app_data(ssl, tls->swap->hosts[host]);
    return SSL_TLSEXT_ERR_OK;
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *opaque)
{
    unsigned char *chosen;
    (void)ssl;
    (void)opaque;
    if (SSL_select_next_proto(&chosen, out_len, http1, HTTP1_BYTES, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

int tls_host(const SSL *ssl)
{
    const struct tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const char *name = SSL_get_app_data(ssl);
    return name ? swap_host(tls->swap, name, strlen(name)) : -1;
}

/* ---- */

static SSL_CTX *new_context(struct tls *tls, const SSL_METHOD *method)
{
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx)
        return NULL;
    SSL_CTX_set_app_data(ctx, tls);
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(ctx, CIPHERS);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    return ctx;
}

static int load_trust(SSL_CTX *ctx, const char *file, struct dayfly_err *err)
{
    static const char *const files[] = {
        "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};
    for (size_t i = 0; !file && i < ARRAY_SIZE(files); i++)
        if (access(files[i], R_OK) == 0)
            file = files[i];
    if (!file)
        return err_set(err, ENOENT, "this host has no certificates to trust: install ca-certificates");
    if (SSL_CTX_load_verify_file(ctx, file) != 1)
        return err_set(err, EINVAL, "%s has no certificates to trust", file);
    return 0;
}

int tls_new(struct tls **out, const struct swap *swap, const char *trust_file,
            char ca_pem[static TLS_CA_PEM_BYTES], struct dayfly_err *err)
{
    OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL); /* what it does is not the host's to choose */
    struct tls *tls = calloc(1, sizeof(*tls));
    if (!tls)
        return err_set(err, ENOMEM, "no memory");
    tls->swap = swap;
    tls->server = new_context(tls, TLS_server_method());
    tls->client = new_context(tls, TLS_client_method());
    if (!tls->server || !tls->client || !make_certs(tls, ca_pem)) {
        tls_free(tls);
        return err_set(err, ENOMEM, "make certificates for secrets' hosts");
    }
    SSL_CTX_set_tlsext_servername_callback(tls->server, choose_host);
    SSL_CTX_set_tlsext_servername_arg(tls->server, tls);
    SSL_CTX_set_alpn_select_cb(tls->server, choose_protocol, NULL);
    SSL_CTX_set_verify(tls->client, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_alpn_protos(tls->client, http1, HTTP1_BYTES);
    int r = load_trust(tls->client, trust_file, err);
    if (r < 0) {
        tls_free(tls);
        return r;
    }
    *out = tls;
    return 0;
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    for (unsigned i = 0; i < SWAP_HOSTS_MAX; i++)
        X509_free(tls->leaves[i]);
    EVP_PKEY_free(tls->leaf_key);
    SSL_CTX_free(tls->server);
    SSL_CTX_free(tls->client);
    free(tls);
}

SSL *tls_accept(struct tls *tls, int fd)
{
    SSL *ssl = SSL_new(tls->server);
    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_accept_state(ssl);
    return ssl;
}

SSL *tls_connect(struct tls *tls, int fd, unsigned host)
{
    const char *name = tls->swap->hosts[host];
    SSL *ssl = SSL_new(tls->client);
    if (!ssl || SSL_set_fd(ssl, fd) != 1 || SSL_set_tlsext_host_name(ssl, name) != 1 ||
        SSL_set1_host(ssl, name) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    SSL_set_connect_state(ssl);
    return ssl;
}

const char *tls_why(const SSL *ssl)
{
    long code = SSL_get_verify_result(ssl);
    return code == X509_V_OK ? "TLS with the server failed" : X509_verify_cert_error_string(code);
}
