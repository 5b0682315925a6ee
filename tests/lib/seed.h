/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seed.h - random numbers that a failing test can repeat
 *
 * The seed is VARVE_TEST_SEED from the environment, or new at each run; it is printed.
 */
#ifndef VARVE_TESTS_LIB_SEED_H
#define VARVE_TESTS_LIB_SEED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t seed_next(uint64_t *state)
{
    /* SplitMix64 (Steele, Lea, Flood 2014): any seed is a good one. */
    uint64_t value = *state += 0x9e3779b97f4a7c15u;

    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

static inline uint64_t seed_below(uint64_t *state, uint64_t limit)
{
    return seed_next(state) % limit;
}

static inline uint64_t seed_start(const char *test)
{
    const char *text = getenv("VARVE_TEST_SEED");
    uint64_t seed;

    if (text != NULL) {
        seed = strtoull(text, NULL, 0);
    } else {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + (uint64_t)getpid();
    }
    fprintf(stderr, "%s: VARVE_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

#endif
