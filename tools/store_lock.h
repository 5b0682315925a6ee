/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_lock.h - wait until no process has a store open
 *
 * umount(8) returns when the kernel has let go, while the daemon still makes everything durable. It
 * holds the store's lock until that is done. Waiting polls the lock and takes it for no longer than
 * a test needs.
 */
#ifndef VARVE_TOOLS_STORE_LOCK_H
#define VARVE_TOOLS_STORE_LOCK_H

#include <stdbool.h>

/* Does the waiter want another try? Asked every 2 ms. */
typedef bool store_lock_patience(void *context);

/* Wait as long as the caller wants to. 0: free, or nothing there that is locked (a checkpoint);
 * ERROR_LOCKED: it is in use still; or another negative error. */
int store_lock_wait(const char *store, store_lock_patience *patience, void *context);

/*
 * Wait for a store that is likely being closed: one in use that no mount shows. Ends after ten
 * seconds, or at once when the store is mounted; whoever opens it then hears why it cannot be.
 * `fsname`: what a mount of it may show instead, or NULL.
 */
void store_lock_wait_closing(const char *store, const char *fsname);

#endif
