/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_lease.c - named claims on checkpoints, with an end
 *
 * A lease is a record under checkpoint id and owner; its value is the second at which it ends, or
 * zero. Leases go with their checkpoint.
 */
#include <errno.h>
#include <string.h>

#include "engine/base/error.h"
#include "engine/fields.h"
#include "engine/manifest_codec.h"
#include "engine/manifest_record.h"

struct lease_work {
    struct manifest_key key;
    uint64_t expires_s;
};

static int lease_key(uint64_t checkpoint_id, const char *owner, struct manifest_key *ret_key)
{
    size_t size = strlen(owner);

    if (size == 0 || size > MANIFEST_NAME_SIZE_MAX)
        return -EINVAL;
    *ret_key = manifest_key_number(MANIFEST_KEY_LEASE, checkpoint_id);
    memcpy(ret_key->bytes + ret_key->size, owner, size);
    ret_key->size += size;
    return 0;
}

static int put_lease(struct manifest_transaction *transaction, void *context)
{
    const struct lease_work *work = context;
    uint8_t value[8];

    put_le64(value, work->expires_s);
    return manifest_record_put(transaction, &work->key, slice_of(value, sizeof value));
}

int manifest_lease_put(struct manifest *manifest, uint64_t checkpoint_id, const char *owner,
                       uint64_t expires_s)
{
    struct lease_work work = {.expires_s = expires_s};
    int error = lease_key(checkpoint_id, owner, &work.key);

    return error == 0 ? manifest_update(manifest, put_lease, &work) : error;
}

static int remove_lease(struct manifest_transaction *transaction, void *context)
{
    const struct lease_work *work = context;
    int error = manifest_record_delete(transaction, &work->key);

    if (error == 0)
        return -ENOENT;
    return error < 0 ? error : 0;
}

int manifest_lease_remove(struct manifest *manifest, uint64_t checkpoint_id, const char *owner)
{
    struct lease_work work = {0};
    int error = lease_key(checkpoint_id, owner, &work.key);

    return error == 0 ? manifest_update(manifest, remove_lease, &work) : error;
}

/* ---- looking ---- */

struct lease_visit {
    struct manifest_key prefix;
    uint64_t now_s;
    manifest_lease_callback *callback;
    void *context;
};

static int visit_lease(void *context, struct slice key, struct slice payload)
{
    const struct lease_visit *visit = context;
    struct field_reader reader = field_reader_of(payload);
    uint64_t expires_s = field_take_u64(&reader);
    size_t size = visit->prefix.size;

    if (field_reader_end(&reader) != 0 || key.size <= size)
        return manifest_record_report(key, ERROR_CORRUPT);
    if (expires_s != 0 && expires_s <= visit->now_s)
        return 0;
    return visit->callback(visit->context, slice_of(key.data + size, key.size - size), expires_s);
}

static int visit_leases(struct manifest_transaction *transaction, void *context)
{
    struct lease_visit *visit = context;

    return manifest_record_each(transaction, &visit->prefix, visit_lease, visit);
}

int manifest_lease_each(struct manifest *manifest, uint64_t checkpoint_id, uint64_t now_s,
                        manifest_lease_callback *callback, void *context)
{
    struct lease_visit visit = {
        .prefix = manifest_key_number(MANIFEST_KEY_LEASE, checkpoint_id),
        .now_s = now_s,
        .callback = callback,
        .context = context,
    };

    return manifest_inspect(manifest, visit_leases, &visit);
}

static int count_lease(void *context, struct slice owner, uint64_t expires_s)
{
    int *count = context;

    (void)owner;
    (void)expires_s;
    (*count)++;
    return 0;
}

int manifest_lease_count(struct manifest *manifest, uint64_t checkpoint_id, uint64_t now_s)
{
    int count = 0;
    int error = manifest_lease_each(manifest, checkpoint_id, now_s, count_lease, &count);

    return error == 0 ? count : error;
}

int manifest_leases_drop(struct manifest_transaction *transaction, uint64_t checkpoint_id)
{
    struct manifest_key prefix = manifest_key_number(MANIFEST_KEY_LEASE, checkpoint_id);

    return manifest_record_delete_prefix(transaction, &prefix);
}
