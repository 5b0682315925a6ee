/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_driver.c - children for seeds, shrinking, the search for syncs that nobody would miss
 */
#include "tests/lib/crash_driver.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/log.h"
#include "tests/lib/seed.h"
#include "tests/lib/test_directory.h"

#define HANG_SECONDS    900 /* of a machine that others use as well */
#define SITES_MAX       128
#define SHRINK_TRIES    6
#define MUTATION_STATES 600
#define MUTATION_SEEDS  16
#define DISCOVERY_SEEDS 12
#define CONTROL_TIMES   3    /* a seed that fails without a sync must pass so often with it */
#define SAMPLE_STATES   500  /* of a seed, where seconds count, */
#define SEED_STATES     4000 /* or states: for more variety */

struct site {
    uint64_t number, hits;
    char text[200];
};

/* What children tell. */
struct report {
    uint64_t states, states_by_depth[8], calls;
    size_t site_count;
    struct site sites[SITES_MAX];
    char wrong[600]; /* what the last child that failed said */
};

struct driver {
    const struct crash_suite *suite;
    const char *program;
    struct report *report;
    bool is_verbose, is_quiet;
    unsigned operations; /* 0: as the seed says */
    uint64_t skipped_site;
    bool find_sites;
    const char *only; /* of the places to try; NULL: all */
    unsigned unsound;
};

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void note_site(void *context, uint64_t site, const char *text)
{
    struct report *report = context; /* the disk's lock is held */

    for (size_t i = 0; i < report->site_count; i++) {
        if (report->sites[i].number == site) {
            report->sites[i].hits++;
            return;
        }
    }
    if (report->site_count == SITES_MAX)
        return;
    report->sites[report->site_count].number = site;
    report->sites[report->site_count].hits = 1;
    snprintf(report->sites[report->site_count].text, sizeof report->sites[0].text, "%s", text);
    report->site_count++;
}

/* ---- one seed ---- */

static unsigned operations_of(const struct driver *driver, uint64_t seed)
{
    if (driver->operations > 0)
        return driver->operations;
    return 8 + (unsigned)seed_below(&seed, driver->suite->operations_max - 8);
}

static int child_main(struct driver *driver, uint64_t seed, uint64_t states_max)
{
    const char *memory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : NULL;
    char *scratch = memory != NULL ? test_directory_make_in(memory) : test_directory_make();
    struct crash_parameters parameters = {
        .seed = seed,
        .operations = operations_of(driver, seed),
        .states_max = states_max,
        .skipped_site = driver->skipped_site,
        .scratch = scratch,
        .is_verbose = driver->is_verbose,
        .site_observer = driver->find_sites ? note_site : NULL,
        .site_context = driver->report,
    };
    char *wrong;

    log_set_level(driver->is_verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    wrong = driver->suite->run(&parameters);
    driver->report->states += parameters.states;
    for (size_t i = 0; i < 8; i++)
        driver->report->states_by_depth[i] += parameters.states_by_depth[i];
    driver->report->calls += parameters.calls;
    test_directory_remove(scratch);
    if (wrong != NULL)
        snprintf(driver->report->wrong, sizeof driver->report->wrong, "%s", wrong);
    if (wrong != NULL)
        fprintf(stderr, "%s: seed %llu: %s\n", driver->suite->name, (unsigned long long)seed,
                wrong);
    free(wrong);
    return wrong != NULL ? 1 : 0;
}

/* The whole output of a child is of no interest while a failure is only reproduced. */
static void be_quiet(void)
{
    if (freopen("/dev/null", "w", stderr) == NULL)
        abort();
}

static bool wait_for(pid_t child, int *ret_status)
{
    double end = seconds() + HANG_SECONDS;

    while (waitpid(child, ret_status, WNOHANG) == 0) {
        struct timespec pause = {.tv_nsec = 2000000};

        if (seconds() > end) {
            kill(child, SIGABRT);
            (void)waitpid(child, ret_status, 0);
            return false;
        }
        nanosleep(&pause, NULL);
    }
    return true;
}

/* Does the seed pass? */
static bool run_seed(struct driver *driver, uint64_t seed, uint64_t states_max)
{
    int status = 0;
    pid_t child;

    fflush(NULL);
    driver->report->wrong[0] = '\0';
    child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        if (driver->is_quiet)
            be_quiet();
        exit(child_main(driver, seed, states_max));
    }
    if (!wait_for(child, &status)) {
        snprintf(driver->report->wrong, sizeof driver->report->wrong, "it hangs");
        if (!driver->is_quiet)
            fprintf(stderr, "%s: seed %llu: hangs\n", driver->suite->name,
                    (unsigned long long)seed);
        return false;
    }
    if (WIFSIGNALED(status))
        snprintf(driver->report->wrong, sizeof driver->report->wrong, "signal %d",
                 WTERMSIG(status));
    if (WIFSIGNALED(status) && !driver->is_quiet)
        fprintf(stderr, "%s: seed %llu: ended by signal %d\n", driver->suite->name,
                (unsigned long long)seed, WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool fails_soon(struct driver *driver, uint64_t seed)
{
    for (unsigned i = 0; i < SHRINK_TRIES; i++)
        if (!run_seed(driver, seed, 0))
            return true;
    return false;
}

/* Fewer operations while it still fails; then say how to see it. */
static void shrink(struct driver *driver, uint64_t seed)
{
    unsigned worst = operations_of(driver, seed);

    driver->is_quiet = true;
    for (unsigned step = worst / 2; step > 0; step /= 2) {
        while (worst > step) {
            driver->operations = worst - step;
            if (!fails_soon(driver, seed))
                break;
            worst -= step;
        }
    }
    driver->operations = 0;
    driver->is_quiet = false;
    fprintf(stderr, "%s: FAILED. See it with: %s --seed %llu --ops %u --times 20\n",
            driver->suite->name, driver->program, (unsigned long long)seed, worst);
}

/* ---- many seeds ---- */

static void print_report(const struct driver *driver, uint64_t seeds)
{
    const struct report *report = driver->report;

    printf("%s: %llu seeds, %llu changing calls, %llu states recovered (by depth:",
           driver->suite->name, (unsigned long long)seeds, (unsigned long long)report->calls,
           (unsigned long long)report->states);
    for (size_t i = 0; i < sizeof report->states_by_depth / sizeof report->states_by_depth[0]; i++)
        printf(" %llu", (unsigned long long)report->states_by_depth[i]);
    printf(")\n");
    fflush(stdout);
}

/* Until so many states, or so many seconds; 0: no limit. */
static int run_many(struct driver *driver, uint64_t seed, uint64_t states_max, double seconds_max)
{
    double end = seconds() + seconds_max, said = seconds();
    uint64_t seeds = 0;

    while ((states_max == 0 || driver->report->states < states_max) &&
           (seconds_max == 0 || seconds() < end)) {
        uint64_t this_seed = seed_next(&seed) % 1000000000;

        if (!run_seed(driver, this_seed, seconds_max > 0 ? SAMPLE_STATES : SEED_STATES)) {
            shrink(driver, this_seed);
            print_report(driver, seeds);
            return 1;
        }
        seeds++;
        if (seconds() - said > 60) {
            print_report(driver, seeds);
            said = seconds();
        }
    }
    print_report(driver, seeds);
    return 0;
}

/* ---- missing syncs ---- */

/* "function (file:line)" of a place, where there is a program that knows. */
static void describe_site(const struct driver *driver, const char *text, char to[400])
{
    const char *address = strrchr(text, ' ');
    char command[600], line[300] = "";
    FILE *pipe;

    snprintf(to, 400, "%s", text);
    if (address == NULL)
        return;
    snprintf(command, sizeof command,
             "addr2line -s -f -p -e '%s' $(printf '0x%%x' $((%s - 0x%lx - 1))) 2>/dev/null",
             driver->program, address + 1, 0UL);
    pipe = popen(command, "r");
    if (pipe == NULL)
        return;
    if (fgets(line, sizeof line, pipe) != NULL && strchr(line, '?') == NULL) {
        line[strcspn(line, "\n")] = '\0';
        snprintf(to, 400, "%.*s in %s", (int)(address - text), text, line);
    }
    (void)pclose(pipe);
}

static const char *expected_reason(const struct driver *driver, const char *text)
{
    const char *const(*expected)[2] = driver->suite->expected_survivors;

    for (; expected != NULL && (*expected)[0] != NULL; expected++)
        if (strstr(text, (*expected)[0]) != NULL)
            return (*expected)[1];
    return NULL;
}

/* What was seen, in a line. */
static const char *first_line(char *wrong)
{
    for (char *at = wrong; *at != '\0'; at++)
        if (*at == '\n')
            *at = ';';
    return wrong;
}

/* Does the seed pass, and pass again, with every sync in its place? */
static bool is_sound(struct driver *driver, uint64_t seed)
{
    for (unsigned i = 0; i < CONTROL_TIMES; i++) {
        if (run_seed(driver, seed, MUTATION_STATES))
            continue;
        printf("%s: seed %llu fails all the same: %s\n", driver->suite->name,
               (unsigned long long)seed, first_line(driver->report->wrong));
        fflush(stdout);
        driver->unsound++;
        return false;
    }
    return true;
}

/* Is there a seed that fails without the sync, and does not fail with it? */
static bool is_noticed(struct driver *driver, uint64_t seed, uint64_t site)
{
    char wrong[sizeof driver->report->wrong] = "";
    bool noticed = false;

    driver->is_quiet = true;
    for (unsigned i = 0; i < MUTATION_SEEDS && !noticed; i++) {
        uint64_t this_seed = seed_next(&seed) % 1000000000;

        driver->skipped_site = site;
        noticed = !run_seed(driver, this_seed, MUTATION_STATES);
        driver->skipped_site = 0;
        memcpy(wrong, driver->report->wrong, sizeof wrong);
        noticed = noticed && is_sound(driver, this_seed);
    }
    memcpy(driver->report->wrong, wrong, sizeof wrong);
    driver->is_quiet = false;
    return noticed;
}

static int run_mutations(struct driver *driver, uint64_t seed)
{
    size_t noticed = 0, unexpected = 0, tried = 0;
    uint64_t discovery = seed;

    driver->find_sites = true;
    for (unsigned i = 0; i < DISCOVERY_SEEDS; i++)
        if (!run_seed(driver, seed_next(&discovery) % 1000000000, MUTATION_STATES))
            return 1;
    driver->find_sites = false;
    for (size_t i = 0; i < driver->report->site_count; i++) {
        const struct site *site = &driver->report->sites[i];
        const char *reason = NULL;
        char text[400];
        bool found;

        describe_site(driver, site->text, text);
        if (driver->only != NULL && strstr(text, driver->only) == NULL)
            continue;
        tried++;
        found = is_noticed(driver, seed, site->number);
        reason = found ? first_line(driver->report->wrong) : expected_reason(driver, text);
        noticed += found;
        unexpected += !found && reason == NULL;
        printf("%s: %-9s %s (%llu times)%s%s\n", driver->suite->name,
               found ? "noticed" : "SURVIVES", text, (unsigned long long)site->hits,
               reason != NULL ? ": " : "", reason != NULL ? reason : "");
        fflush(stdout);
    }
    printf("%s: %zu of %zu places noticed, %zu survive unexpectedly\n", driver->suite->name,
           noticed, tried, unexpected);
    if (driver->unsound > 0)
        printf("%s: %u seeds fail with every sync in its place\n", driver->suite->name,
               driver->unsound);
    return unexpected > 0 || driver->unsound > 0 ? 1 : 0;
}

/* ---- the command line ---- */

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [--seed S] [--ops N] [--times N] [--states N] [--seconds N] "
            "[--mutate [--only TEXT]] [--verbose]\n",
            program);
    return 2;
}

static int run_times(struct driver *driver, uint64_t seed, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        if (!run_seed(driver, seed, 0))
            return 1;
    print_report(driver, times);
    return 0;
}

int crash_driver_main(const struct crash_suite *suite, int count, char **arguments)
{
    const char *environment = getenv("VARVE_CRASH_SECONDS");
    struct driver driver = {.suite = suite, .program = arguments[0]};
    double seconds_max = environment != NULL ? strtod(environment, NULL) : 20;
    uint64_t seed = 0, states_max = 0;
    unsigned times = 1;
    bool has_seed = false, mutate = false;

    for (int i = 1; i < count; i++) {
        const char *option = arguments[i];
        const char *value = i + 1 < count ? arguments[i + 1] : NULL;

        if (strcmp(option, "--mutate") == 0) {
            mutate = true;
            continue;
        }
        if (strcmp(option, "--verbose") == 0) {
            driver.is_verbose = true;
            continue;
        }
        if (value == NULL)
            return usage(arguments[0]);
        i++;
        if (strcmp(option, "--seed") == 0) {
            seed = strtoull(value, NULL, 0);
            has_seed = true;
        } else if (strcmp(option, "--ops") == 0) {
            driver.operations = (unsigned)strtoul(value, NULL, 0);
        } else if (strcmp(option, "--times") == 0) {
            times = (unsigned)strtoul(value, NULL, 0);
        } else if (strcmp(option, "--states") == 0) {
            states_max = strtoull(value, NULL, 0);
            seconds_max = 0;
        } else if (strcmp(option, "--only") == 0) {
            driver.only = value;
        } else if (strcmp(option, "--seconds") == 0) {
            seconds_max = strtod(value, NULL);
        } else {
            return usage(arguments[0]);
        }
    }
    driver.report = mmap(NULL, sizeof *driver.report, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (driver.report == MAP_FAILED)
        return 1;
    if (has_seed && !mutate)
        return run_times(&driver, seed, times);
    if (!has_seed)
        seed = seed_start(suite->name);
    return mutate ? run_mutations(&driver, seed) : run_many(&driver, seed, states_max, seconds_max);
}
