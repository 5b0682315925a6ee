/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_xattr.c - extended attributes, and the two that are access control lists
 */
#include <errno.h>
#include <sys/xattr.h>

#include "fuse/fs_names.h"

#define VALUE_SIZE_MAX 65536 /* XATTR_SIZE_MAX of the kernel */
#define LIST_SIZE_MAX  65536 /* XATTR_LIST_MAX: a longer list could not be read */
/* So many names always fit into the list, whatever their lengths. */
#define NAMES_UNCOUNTED (LIST_SIZE_MAX / (FS_NAME_SIZE_MAX + 1))
/* What .snapshots adds to the roots of snapshots; no real one may hide behind it. */
#define VIRTUAL_PREFIX "user.varve."
#define TRUSTED_PREFIX "trusted."

static bool has_prefix(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_acl(const char *name)
{
    return strcmp(name, FS_XATTR_ACL_ACCESS) == 0 || strcmp(name, FS_XATTR_ACL_DEFAULT) == 0;
}

/* 0; -ERANGE for a length, -EOPNOTSUPP for a namespace that does not exist here. */
static int check_name(const char *name)
{
    static const char *const prefixes[] = {"user.", "trusted.", "security."};
    size_t size = strlen(name);

    if (size == 0 || size > FS_NAME_SIZE_MAX)
        return -ERANGE;
    if (is_acl(name))
        return 0;
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (has_prefix(name, prefixes[i]))
            return name[strlen(prefixes[i])] != '\0' ? 0 : -EINVAL;
    return -EOPNOTSUPP;
}

int fs_xattr_load(struct engine_view *view, uint64_t ino, const char *name, struct buffer *value)
{
    struct fs_key key;
    int found;

    fs_key_xattr(&key, ino, name);
    found = engine_view_get(view, fs_key_slice(&key), value, NULL);
    return found > 0 ? 0 : found == 0 ? -ENODATA : found;
}

void fs_xattr_put(struct batch *batch, uint64_t ino, const char *name, struct slice value)
{
    struct fs_key key;

    fs_key_xattr(&key, ino, name);
    batch_put(batch, fs_key_slice(&key), value);
}

static void delete_counted(struct batch *batch, uint64_t ino, struct fs_inode *inode,
                           const char *name)
{
    struct fs_key key;

    fs_key_xattr(&key, ino, name);
    batch_delete(batch, fs_key_slice(&key));
    if (inode->xattrs > 0)
        inode->xattrs--;
}

/* 1, 0, or an error. */
static int exists(struct engine_view *view, uint64_t ino, const struct fs_inode *inode,
                  const char *name)
{
    struct fs_scratch *scratch = fs_scratch_get();
    int error;

    if (inode->xattrs == 0)
        return 0;
    if (scratch == NULL)
        return -ENOMEM;
    error = fs_xattr_load(view, ino, name, &scratch->record);
    if (error == -ENODATA)
        return 0;
    return error < 0 ? error : 1;
}

int fs_xattr_drop(struct engine_view *view, uint64_t ino, struct fs_inode *inode, const char *name,
                  struct batch *batch)
{
    int found = exists(view, ino, inode, name);

    if (found > 0)
        delete_counted(batch, ino, inode, name);
    return found < 0 ? found : 0;
}

/* ---- get ---- */

static int64_t copy_out(struct slice from, void *to, size_t size)
{
    if (size == 0)
        return (int64_t)from.size;
    if (from.size > size)
        return -ERANGE;
    if (from.size > 0)
        memcpy(to, from.data, from.size);
    return (int64_t)from.size;
}

static int64_t get_real(const struct fs_location *location, const char *name, void *value,
                        size_t size)
{
    struct fs_scratch *scratch = fs_scratch_get();
    struct fs_inode inode;
    int error;

    if (scratch == NULL)
        return -ENOMEM;
    error = fs_inode_load(location->view, location->ino, &inode, NULL);
    if (error < 0)
        return error == -ENOENT ? -ESTALE : error;
    if (inode.xattrs == 0)
        return -ENODATA;
    error = fs_xattr_load(location->view, location->ino, name, &scratch->value);
    return error < 0 ? error : copy_out(buffer_slice(&scratch->value), value, size);
}

int64_t fs_getxattr(struct fs *fs, uint64_t node, const char *name, void *value, size_t size)
{
    struct fs_location location;
    int64_t result = check_name(name);

    if (result < 0)
        return result;
    result = fs_location_get(fs, node, &location);
    if (result < 0)
        return result;
    result = -ENODATA;
    if (location.snapshot != NULL)
        result = fs_snapshot_getxattr(fs, &location, name, value, size);
    if (result == -ENODATA && !location.virtual_directory)
        result = get_real(&location, name, value, size);
    fs_location_put(fs, &location);
    return result;
}

/* ---- list ---- */

/* Lay the names out one after the other: the length of the list, also when it does not fit. */
static int64_t collect_names(struct engine_view *view, uint64_t ino, bool trusted, char *list,
                             size_t size)
{
    const struct slice hidden = slice_of_string(TRUSTED_PREFIX);
    struct engine_iterator *iterator;
    struct fs_key start, end;
    size_t total = 0;
    int found;

    fs_key_type_start(&start, ino, FS_KEY_XATTR);
    fs_key_type_start(&end, ino, FS_KEY_XATTR + 1);
    found = engine_iterator_new(view, fs_key_slice(&end), &iterator);
    if (found < 0)
        return found;
    found = engine_iterator_seek(iterator, fs_key_slice(&start));
    while (found > 0) {
        struct slice name = engine_iterator_record(iterator)->key;

        name = slice_of(name.data + start.size, name.size - start.size);
        if (!trusted && name.size >= hidden.size &&
            memcmp(name.data, hidden.data, hidden.size) == 0) {
            found = engine_iterator_next(iterator);
            continue;
        }
        if (total + name.size + 1 <= size) {
            memcpy(list + total, name.data, name.size);
            list[total + name.size] = '\0';
        }
        total += name.size + 1;
        found = engine_iterator_next(iterator);
    }
    engine_iterator_free(iterator);
    return found < 0 ? found : (int64_t)total;
}

int64_t fs_listxattr(struct fs *fs, uint64_t node, bool trusted, void *list, size_t size)
{
    struct fs_location location;
    struct fs_inode inode;
    int64_t result = fs_location_get(fs, node, &location);

    if (result < 0)
        return result;
    if (!location.virtual_directory) {
        result = fs_inode_load(location.view, location.ino, &inode, NULL);
        if (result == -ENOENT)
            result = -ESTALE;
        else if (result == 0 && inode.xattrs > 0)
            result = collect_names(location.view, location.ino, trusted, list, size);
    }
    fs_location_put(fs, &location);
    return result > 0 && size > 0 && (size_t)result > size ? -ERANGE : result;
}

/* ---- set and remove ---- */

static int load_changeable(struct fs_edit *edit, uint64_t ino, struct fs_inode *ret_inode)
{
    int error = fs_inode_load(edit->view, ino, ret_inode, NULL);

    if (error < 0)
        return error == -ENOENT ? -ESTALE : error;
    fs_edit_heed_flags(edit, ret_inode);
    return (ret_inode->flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0 ? -EPERM : 0;
}

/* Can one more name be listed? */
static int check_list_room(struct engine_view *view, uint64_t ino, const struct fs_inode *inode,
                           const char *name)
{
    int64_t total;

    if (inode->xattrs < NAMES_UNCOUNTED)
        return 0;
    total = collect_names(view, ino, true, NULL, 0);
    if (total < 0)
        return (int)total;
    return total + (int64_t)strlen(name) + 1 > LIST_SIZE_MAX ? -ENOSPC : 0;
}

struct setting {
    uint64_t ino;
    const char *name;
    struct slice value;
    int flags;
};

static int commit_inode(struct fs_edit *edit, uint64_t ino, struct fs_inode *inode)
{
    inode->ctime = edit->now;
    fs_inode_put(edit->batch, ino, inode);
    return fs_edit_commit(edit);
}

static int put_value(struct fs_edit *edit, const struct setting *setting, struct fs_inode *inode,
                     bool present)
{
    if (!present) {
        int error = check_list_room(edit->view, setting->ino, inode, setting->name);

        if (error < 0)
            return error;
        inode->xattrs++;
    }
    fs_xattr_put(edit->batch, setting->ino, setting->name, setting->value);
    return 0;
}

/* A list that says nothing beyond the mode is not kept: the mode says it. */
static int put_acl(struct fs_edit *edit, const struct setting *setting, struct fs_inode *inode,
                   bool present)
{
    bool access = strcmp(setting->name, FS_XATTR_ACL_ACCESS) == 0;
    bool empty, redundant = false;
    int error = fs_acl_check(setting->value, &empty);

    if (error < 0)
        return error;
    if (S_ISLNK(inode->mode))
        return -EOPNOTSUPP;
    if (!access && !empty && !S_ISDIR(inode->mode))
        return -EACCES;
    if (access && !empty) {
        mode_t mode = inode->mode;

        redundant = fs_acl_to_mode(setting->value, &mode);
        inode->mode = mode;
        if ((setting->flags & FS_XATTR_KILL_SGID) != 0)
            inode->mode &= ~(uint32_t)S_ISGID;
    }
    if (!empty && !redundant)
        return put_value(edit, setting, inode, present);
    if (present)
        delete_counted(edit->batch, setting->ino, inode, setting->name);
    return 0;
}

static int set_in(struct fs_edit *edit, const struct setting *setting)
{
    struct fs_inode inode;
    int present;
    int error = load_changeable(edit, setting->ino, &inode);

    if (error < 0)
        return error;
    present = exists(edit->view, setting->ino, &inode, setting->name);
    if (present < 0)
        return present;
    if (present && (setting->flags & XATTR_CREATE) != 0)
        return -EEXIST;
    if (!present && (setting->flags & XATTR_REPLACE) != 0)
        return -ENODATA;
    error = is_acl(setting->name) ? put_acl(edit, setting, &inode, present > 0)
                                  : put_value(edit, setting, &inode, present > 0);
    return error < 0 ? error : commit_inode(edit, setting->ino, &inode);
}

int fs_setxattr(struct fs *fs, uint64_t node, const char *name, const void *value, size_t size,
                int flags, const struct fs_caller *caller)
{
    struct setting setting = {node, name, slice_of(value, size), flags};
    struct fs_edit edit;
    int error = fs_node_check_writable(fs, node);

    (void)caller;
    if (error == 0)
        error = check_name(name);
    if (error < 0)
        return error;
    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE | FS_XATTR_KILL_SGID)) != 0)
        return -EINVAL;
    if (has_prefix(name, VIRTUAL_PREFIX))
        return -EPERM;
    if (size > VALUE_SIZE_MAX)
        return -E2BIG;
    error = engine_space_check(fs->engine);
    if (error == 0)
        error = fs_edit_begin(fs, &node, 1, &edit);
    if (error < 0)
        return error;
    error = set_in(&edit, &setting);
    fs_edit_end(&edit);
    return error;
}

static int remove_in(struct fs_edit *edit, uint64_t ino, const char *name)
{
    struct fs_inode inode;
    int error = load_changeable(edit, ino, &inode);

    if (error == 0)
        error = exists(edit->view, ino, &inode, name);
    /* That there be no ACL is so already: tar and setfacl take that for done. */
    if (error == 0)
        return strcmp(name, FS_XATTR_ACL_ACCESS) == 0 || strcmp(name, FS_XATTR_ACL_DEFAULT) == 0
                   ? 0
                   : -ENODATA;
    if (error < 0)
        return error;
    delete_counted(edit->batch, ino, &inode, name);
    return commit_inode(edit, ino, &inode);
}

int fs_removexattr(struct fs *fs, uint64_t node, const char *name, const struct fs_caller *caller)
{
    struct fs_edit edit;
    int error = fs_node_check_writable(fs, node);

    (void)caller;
    if (error == 0)
        error = check_name(name);
    if (error < 0)
        return error;
    error = fs_edit_begin(fs, &node, 1, &edit);
    if (error < 0)
        return error;
    error = remove_in(&edit, node, name);
    fs_edit_end(&edit);
    return error;
}
