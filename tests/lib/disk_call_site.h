/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_call_site.h - who in the program called io_sync(), set by disk_seam.c for the disk model
 */
#ifndef VARVE_TESTS_LIB_DISK_CALL_SITE_H
#define VARVE_TESTS_LIB_DISK_CALL_SITE_H

/* A return address, or NULL where the seam is not wrapped. */
extern _Thread_local const void *disk_call_site;

#endif
