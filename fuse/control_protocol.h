/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_protocol.h - how the command line talks to the daemon of a mount
 *
 * One ioctl, on any file or directory inside the mount, carries a JSON object there and one back:
 *
 *   request  token 0, `size` bytes of JSON: {"verb": "...", ...}
 *   reply    `size` bytes of JSON. When it is longer than one message, token is not 0: the same
 *            ioctl with that token and size 0 gives the next part, until a reply has token 0.
 *   parts    A longer request is sent in parts: all but the last have CONTROL_MAGIC_PART, the first
 *            of them token 0; the answer is empty but for the token to use in the next.
 *
 * Every reply is either {"ok": true, ...} or
 * {"ok": false, "error": {"errno": 17, "text": "..."}}. The ioctl itself fails with ENOTTY where
 * the file is not on a Varve mount, EINVAL for what is not a message, E2BIG, EPERM for a verb that
 * is only for root and the mount's owner, ESTALE for a token that expired.
 *
 * Both sides run on one machine: numbers are in its byte order.
 */
#ifndef VARVE_FUSE_CONTROL_PROTOCOL_H
#define VARVE_FUSE_CONTROL_PROTOCOL_H

#include <stdint.h>
#include <sys/ioctl.h>

#define CONTROL_MAGIC        UINT32_C(0x76727663)
#define CONTROL_MAGIC_PART   UINT32_C(0x76727670)
#define CONTROL_MESSAGE_SIZE 12288
#define CONTROL_DATA_SIZE    (CONTROL_MESSAGE_SIZE - 16)
#define CONTROL_REQUEST_MAX  (4 * 1024 * 1024)

struct control_message {
    uint32_t magic;
    uint32_t size;
    uint64_t token;
    char data[CONTROL_DATA_SIZE];
};

_Static_assert(sizeof(struct control_message) == CONTROL_MESSAGE_SIZE, "no padding");
_Static_assert(CONTROL_MESSAGE_SIZE < 1 << 14, "the size is part of the ioctl's number");

#define CONTROL_IOCTL _IOWR('v', 0x56, struct control_message)

#define CONTROL_SCHEMA_VERSION 1

#endif
