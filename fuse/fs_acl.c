/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_acl.c - POSIX access control lists as values of xattrs (acl(5), linux/posix_acl_xattr.h)
 *
 * The kernel checks permissions by these lists; what is left to a filesystem is to keep list and
 * mode in step, and to make the lists of new inodes. All functions but fs_acl_check() take lists
 * that it has passed.
 */
#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include "engine/base/endian.h"
#include "engine/base/invariant.h"
#include "fuse/fs_names.h"

#define HEADER_SIZE 4
#define ENTRY_SIZE  8
#define PERMISSIONS 7

/* An entry in place: tag u16, permissions u16, id u32, little-endian. */
static size_t entry_count(size_t size)
{
    return (size - HEADER_SIZE) / ENTRY_SIZE;
}

static uint16_t tag_at(const uint8_t *acl, size_t index)
{
    return get_le16(acl + HEADER_SIZE + index * ENTRY_SIZE);
}

static uint16_t permissions_at(const uint8_t *acl, size_t index)
{
    return get_le16(acl + HEADER_SIZE + index * ENTRY_SIZE + 2);
}

static void set_permissions(uint8_t *acl, size_t index, mode_t permissions)
{
    put_le16(acl + HEADER_SIZE + index * ENTRY_SIZE + 2, (uint16_t)(permissions & PERMISSIONS));
}

/* The place of a tag in the order that a list must have; 0 for an unknown one. */
static unsigned tag_order(uint16_t tag)
{
    switch (tag) {
    case ACL_USER_OBJ:
        return 1;
    case ACL_USER:
        return 2;
    case ACL_GROUP_OBJ:
        return 3;
    case ACL_GROUP:
        return 4;
    case ACL_MASK:
        return 5;
    case ACL_OTHER:
        return 6;
    default:
        return 0;
    }
}

int fs_acl_check(struct slice acl, bool *ret_empty)
{
    unsigned seen = 0; /* bit n: an entry of order n */
    unsigned last = 0;
    size_t count;

    if (acl.size < HEADER_SIZE || (acl.size - HEADER_SIZE) % ENTRY_SIZE != 0 ||
        get_le32(acl.data) != POSIX_ACL_XATTR_VERSION)
        return -EINVAL;
    count = entry_count(acl.size);
    if (count == 0) {
        *ret_empty = true;
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        uint16_t tag = tag_at(acl.data, i);
        unsigned order = tag_order(tag);
        bool many = tag == ACL_USER || tag == ACL_GROUP;

        if (order == 0 || order < last || (order == last && !many) ||
            permissions_at(acl.data, i) > PERMISSIONS)
            return -EINVAL;
        seen |= 1u << order;
        last = order;
    }
    /* Owner, group and others always; a mask when there is anything for it to mask. */
    if ((seen & (1u << 1 | 1u << 3 | 1u << 6)) != (1u << 1 | 1u << 3 | 1u << 6) ||
        ((seen & (1u << 2 | 1u << 4)) != 0 && (seen & 1u << 5) == 0))
        return -EINVAL;
    *ret_empty = false;
    return 0;
}

/* Where the entry is that the group bits of the mode stand for: the mask if there is one. */
static size_t group_class(const uint8_t *acl, size_t count)
{
    size_t group = count;

    for (size_t i = 0; i < count; i++) {
        if (tag_at(acl, i) == ACL_MASK)
            return i;
        if (tag_at(acl, i) == ACL_GROUP_OBJ)
            group = i;
    }
    invariant(group < count);
    return group;
}

/* How far the bits of an entry are shifted in the mode; -1 when it has none there. */
static int mode_shift(const uint8_t *acl, size_t count, size_t index)
{
    if (tag_at(acl, index) == ACL_USER_OBJ)
        return 6;
    if (tag_at(acl, index) == ACL_OTHER)
        return 0;
    return index == group_class(acl, count) ? 3 : -1;
}

static bool is_minimal(size_t count)
{
    return count == 3;
}

bool fs_acl_to_mode(struct slice acl, mode_t *mode)
{
    size_t count = entry_count(acl.size);
    mode_t bits = 0;

    for (size_t i = 0; i < count; i++) {
        int shift = mode_shift(acl.data, count, i);

        if (shift >= 0)
            bits |= (mode_t)permissions_at(acl.data, i) << shift;
    }
    *mode = (*mode & ~(mode_t)0777) | bits;
    return is_minimal(count);
}

void fs_acl_change_mode(struct buffer *acl, mode_t mode)
{
    size_t count = entry_count(acl->size);

    for (size_t i = 0; i < count; i++) {
        int shift = mode_shift(acl->data, count, i);

        if (shift >= 0)
            set_permissions(acl->data, i, mode >> shift);
    }
}

bool fs_acl_inherit(struct buffer *acl, mode_t *mode)
{
    size_t count = entry_count(acl->size);
    mode_t result = *mode & ~(mode_t)0777;

    /* Each class gets what both the list and the mode asked for give it. */
    for (size_t i = 0; i < count; i++) {
        int shift = mode_shift(acl->data, count, i);
        mode_t permissions;

        if (shift < 0)
            continue;
        permissions = permissions_at(acl->data, i) & (*mode >> shift);
        set_permissions(acl->data, i, permissions);
        result |= permissions << shift;
    }
    *mode = result;
    return is_minimal(count);
}
