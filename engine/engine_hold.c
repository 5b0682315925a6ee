/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_hold.c - holds: leases of the manifest that keep a checkpoint from being deleted
 *
 * A hold is taken and a deletion decided under install_lock, so one of them sees the other.
 */
#include <errno.h>
#include <time.h>

#include "engine/base/blocking.h"
#include "engine/engine_internal.h"

#define OWNER_SIZE_MAX 255

static int owner_text(struct slice owner, char to[OWNER_SIZE_MAX + 1])
{
    if (owner.size == 0 || owner.size > OWNER_SIZE_MAX ||
        memchr(owner.data, '\0', owner.size) != NULL)
        return -EINVAL;
    memcpy(to, owner.data, owner.size);
    to[owner.size] = '\0';
    return 0;
}

/* install_lock held. */
static int check_exists(struct engine *engine, uint64_t id)
{
    bool exists;

    lock_acquire(&engine->checkpoint_lock);
    exists = engine_checkpoint_find_locked(engine, id) != NULL;
    lock_release(&engine->checkpoint_lock);
    return exists ? 0 : -ENOENT;
}

static int check_writable(const struct engine *engine)
{
    if (engine->read_only)
        return -EROFS;
    return engine_latched(engine) ? ERROR_LATCHED : 0;
}

/* Only a commit that was tried and failed leaves the manifest in doubt. */
static int settle(struct engine *engine, int result)
{
    return result == 0 || result == -ENOENT || result == -EINVAL || result == -ENOSPC
               ? result
               : engine_latch(engine, result, "manifest");
}

int engine_checkpoint_hold(struct engine *engine, uint64_t id, struct slice owner,
                           uint64_t expires_s)
{
    char text[OWNER_SIZE_MAX + 1];
    int result = owner_text(owner, text);

    if (result == 0)
        result = check_writable(engine);
    if (result < 0)
        return result;
    blocking_enter();
    lock_acquire(&engine->install_lock);
    result = check_exists(engine, id);
    if (result == 0)
        result = settle(engine, manifest_lease_put(engine->manifest, id, text, expires_s));
    lock_release(&engine->install_lock);
    return result;
}

int engine_checkpoint_release(struct engine *engine, uint64_t id, struct slice owner)
{
    char text[OWNER_SIZE_MAX + 1];
    int result = owner_text(owner, text);

    if (result == 0)
        result = check_writable(engine);
    if (result < 0)
        return result;
    blocking_enter();
    lock_acquire(&engine->install_lock);
    result = check_exists(engine, id);
    if (result == 0)
        result = settle(engine, manifest_lease_remove(engine->manifest, id, text));
    lock_release(&engine->install_lock);
    return result;
}

int engine_checkpoint_holds(struct engine *engine, uint64_t id, engine_hold_callback *callback,
                            void *context)
{
    int result = check_exists(engine, id);

    if (result < 0)
        return result;
    blocking_enter();
    return manifest_lease_each(engine->manifest, id, (uint64_t)time(NULL), callback, context);
}
