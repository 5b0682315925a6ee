/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_damage.h - which damage is done
 */
#ifndef VARVE_TESTS_ROT_ROT_DAMAGE_H
#define VARVE_TESTS_ROT_ROT_DAMAGE_H

#include "tests/rot/rot_trial.h"

struct rot_choice {
    struct rot_store *store;
    const char *file_word; /* only files whose path has it; NULL: all */
    uint64_t seed;
    uint64_t part, parts; /* this one of so many */
};

uint64_t rot_wanted_bytes(const struct rot_choice *choice);

/* Each makes a plan whose memory stays until the process ends. `choice` stays as well. */

/* Each bit, or a random one of each byte, of each file. */
void rot_plan_every(const struct rot_choice *choice, bool one_of_each_byte,
                    struct rot_plan *ret_plan);

/* `count` random bits, wherever they fall. Those in file data go together, one of each frame a group:
 * they must refuse exactly the reads of these frames. All others are trials of their own. */
void rot_plan_flips(const struct rot_choice *choice, const struct rot_frames *frames,
                    uint64_t count, struct rot_plan *ret_plan);

/* `count` random pieces of damage of all kinds: bits, bytes, blocks of zeros, blocks and sectors
 * swapped within a file and between files, whole files exchanged, files cut short, older copies put
 * back. With `only` below UINT64_MAX that one alone. */
void rot_plan_sample(const struct rot_choice *choice, uint64_t count, uint64_t only,
                     struct rot_plan *ret_plan);

#endif
