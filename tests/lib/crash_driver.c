/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_driver.c - children for seeds, shrinking, the search for syncs that nobody would miss
 */
#include "tests/lib/crash_driver.h"

#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
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
#define JOBS_MAX        8
#define STACK_BYTES     (1 << 20) /* the C library keeps up to 40 MiB of them */
#define SHRINK_TRIES    6
#define MUTATION_STATES 600 /* of a seed */
#define MUTATION_SEEDS  16
#define DISCOVERY_SEEDS 12
#define CONTROL_TIMES   3    /* a seed that fails without a sync must pass so often with it */
#define SEED_STATES     4000 /* of a seed, where states count */

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
    const char *only;     /* of the places to try; NULL: all */
    double place_seconds; /* that each of them is tried; 0: as many seeds as there are */
    uint64_t mutation_states;
    unsigned job_count;
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

/* Thousands of engines are opened and closed, one after the other: what one has freed, the stacks of
 * its threads as well, is not given back to the kernel but used by the next. A third of the time. */
static void keep_memory(void)
{
    pthread_attr_t attributes;

    if (pthread_attr_init(&attributes) == 0) {
        (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
        (void)pthread_setattr_default_np(&attributes);
        (void)pthread_attr_destroy(&attributes);
    }
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_TOP_PAD, 16 << 20);
    (void)mallopt(M_ARENA_MAX, 1);
}

static int child_main(struct driver *driver, struct report *report, uint64_t seed,
                      uint64_t states_max)
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
        .site_context = report,
    };
    char *wrong;

    keep_memory();
    log_set_level(driver->is_verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    wrong = driver->suite->run(&parameters);
    report->states += parameters.states;
    for (size_t i = 0; i < 8; i++)
        report->states_by_depth[i] += parameters.states_by_depth[i];
    report->calls += parameters.calls;
    test_directory_remove(scratch);
    if (wrong != NULL)
        snprintf(report->wrong, sizeof report->wrong, "%s", wrong);
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

/* A seed that a child is at. */
struct job {
    pid_t child; /* 0: none */
    uint64_t seed;
    double started;
    struct report *report; /* its own, where children share it */
};

static void job_start(struct driver *driver, struct job *job, uint64_t seed, uint64_t states_max)
{
    fflush(NULL);
    job->report->wrong[0] = '\0';
    job->seed = seed;
    job->started = seconds();
    job->child = fork();
    if (job->child < 0)
        abort();
    if (job->child == 0) {
        if (driver->is_quiet)
            be_quiet();
        exit(child_main(driver, job->report, seed, states_max));
    }
}

/* Did the seed pass? */
static bool job_passed(const struct driver *driver, struct job *job, int status)
{
    job->child = 0;
    if (WIFSIGNALED(status))
        snprintf(job->report->wrong, sizeof job->report->wrong, "signal %d", WTERMSIG(status));
    if (WIFSIGNALED(status) && !driver->is_quiet)
        fprintf(stderr, "%s: seed %llu: ended by signal %d\n", driver->suite->name,
                (unsigned long long)job->seed, WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool job_hangs(const struct driver *driver, struct job *job)
{
    int status;

    if (seconds() < job->started + HANG_SECONDS)
        return false;
    kill(job->child, SIGABRT);
    (void)waitpid(job->child, &status, 0);
    job->child = 0;
    snprintf(job->report->wrong, sizeof job->report->wrong, "it hangs");
    if (!driver->is_quiet)
        fprintf(stderr, "%s: seed %llu: hangs\n", driver->suite->name,
                (unsigned long long)job->seed);
    return true;
}

static void wait_a_little(void)
{
    struct timespec pause = {.tv_nsec = 5000000};

    nanosleep(&pause, NULL);
}

/* Does the seed pass? */
static bool run_seed(struct driver *driver, uint64_t seed, uint64_t states_max)
{
    struct job job = {.report = driver->report};
    int status = 0;

    job_start(driver, &job, seed, states_max);
    while (waitpid(job.child, &status, WNOHANG) == 0) {
        if (job_hangs(driver, &job))
            return false;
        wait_a_little();
    }
    return job_passed(driver, &job, status);
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

static struct report *report_new(void)
{
    struct report *report =
        mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (report == MAP_FAILED)
        abort();
    return report;
}

/* What the job has counted goes to the sum. */
static void report_take(struct report *sum, struct report *part)
{
    sum->states += part->states;
    for (size_t i = 0; i < sizeof sum->states_by_depth / sizeof sum->states_by_depth[0]; i++) {
        sum->states_by_depth[i] += part->states_by_depth[i];
        part->states_by_depth[i] = 0;
    }
    sum->calls += part->calls;
    part->states = part->calls = 0;
}

/* Several seeds at a time. */
struct many {
    struct job jobs[JOBS_MAX];
    uint64_t seed, seeds;             /* of the next; how many have passed */
    uint64_t states_max, seed_states; /* in all, 0: no limit; of one seed */
    double end;                       /* 0: no limit */
    bool has_failed;
    uint64_t failed_seed;
};

static bool many_goes_on(const struct driver *driver, const struct many *many)
{
    return !many->has_failed &&
           (many->states_max == 0 || driver->report->states < many->states_max) &&
           (many->end == 0 || seconds() < many->end);
}

/* Looks at each job once; the number of those that are at work. */
static unsigned many_step(struct driver *driver, struct many *many)
{
    unsigned at_work = 0;

    for (unsigned i = 0; i < driver->job_count; i++) {
        struct job *job = &many->jobs[i];
        bool ended, passed = false;
        int status;

        if (job->child == 0 && many_goes_on(driver, many))
            job_start(driver, job, seed_next(&many->seed) % 1000000000, many->seed_states);
        if (job->child == 0)
            continue;
        at_work++;
        ended = waitpid(job->child, &status, WNOHANG) != 0;
        if (ended)
            passed = job_passed(driver, job, status);
        else if (!job_hangs(driver, job))
            continue;
        report_take(driver->report, job->report);
        many->seeds += passed;
        if (!passed && !many->has_failed)
            many->failed_seed = job->seed;
        many->has_failed |= !passed;
    }
    return at_work;
}

/* Until so many states, or so many seconds; 0: no limit. */
static int run_many(struct driver *driver, uint64_t seed, uint64_t states_max, double seconds_max)
{
    struct many many = {.seed = seed,
                        .states_max = states_max,
                        .seed_states = seconds_max > 0 ? driver->suite->sample_states : SEED_STATES,
                        .end = seconds_max > 0 ? seconds() + seconds_max : 0};
    double said = seconds();

    for (unsigned i = 0; i < driver->job_count; i++)
        many.jobs[i].report = report_new();
    while (many_step(driver, &many) > 0) {
        wait_a_little();
        if (seconds() - said > 60) {
            print_report(driver, many.seeds);
            said = seconds();
        }
    }
    if (many.has_failed)
        shrink(driver, many.failed_seed);
    print_report(driver, many.seeds);
    return many.has_failed ? 1 : 0;
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
        if (run_seed(driver, seed, driver->mutation_states))
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
    double end = driver->place_seconds > 0 ? seconds() + driver->place_seconds : HUGE_VAL;
    bool noticed = false;

    driver->is_quiet = true;
    for (unsigned i = 0; i < MUTATION_SEEDS && !noticed && seconds() < end; i++) {
        uint64_t this_seed = seed_next(&seed) % 1000000000;

        driver->skipped_site = site;
        noticed = !run_seed(driver, this_seed, driver->mutation_states);
        driver->skipped_site = 0;
        memcpy(wrong, driver->report->wrong, sizeof wrong);
        noticed = noticed && is_sound(driver, this_seed);
    }
    memcpy(driver->report->wrong, wrong, sizeof wrong);
    driver->is_quiet = false;
    return noticed;
}

/* Has the description one of the texts, between which there is '|'? */
static bool is_wanted(const struct driver *driver, const char *text)
{
    const char *only = driver->only;
    char part[200];

    if (only == NULL)
        return true;
    for (size_t size; *only != '\0'; only += size + (only[size] == '|')) {
        size = strcspn(only, "|");
        snprintf(part, sizeof part, "%.*s", (int)size, only);
        if (strstr(text, part) != NULL)
            return true;
    }
    return false;
}

static int run_mutations(struct driver *driver, uint64_t seed)
{
    size_t noticed = 0, unexpected = 0, tried = 0;
    uint64_t discovery = seed;

    driver->find_sites = true;
    for (unsigned i = 0; i < DISCOVERY_SEEDS; i++)
        if (!run_seed(driver, seed_next(&discovery) % 1000000000, driver->mutation_states))
            return 1;
    driver->find_sites = false;
    for (size_t i = 0; i < driver->report->site_count; i++) {
        const struct site *site = &driver->report->sites[i];
        const char *reason = NULL;
        char text[400];
        bool found;

        describe_site(driver, site->text, text);
        if (!is_wanted(driver, text))
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
            "usage: %s [--seed S] [--ops N] [--times N] [--states N] [--seconds N] [--jobs N] "
            "[--mutate [--only TEXT|TEXT] [--seconds N] [--states N]] [--verbose]\n",
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
    struct driver driver = {.suite = suite, .program = arguments[0], .job_count = 1};
    double seconds_max = environment != NULL ? strtod(environment, NULL) : 20;
    uint64_t seed = 0, states_max = 0;
    unsigned times = 1;
    bool has_seed = false, has_seconds = false, mutate = false;

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
        } else if (strcmp(option, "--jobs") == 0) {
            driver.job_count = (unsigned)strtoul(value, NULL, 0);
            if (driver.job_count < 1 || driver.job_count > JOBS_MAX)
                return usage(arguments[0]);
        } else if (strcmp(option, "--only") == 0) {
            driver.only = value;
        } else if (strcmp(option, "--seconds") == 0) {
            seconds_max = strtod(value, NULL);
            has_seconds = true;
        } else {
            return usage(arguments[0]);
        }
    }
    driver.report = report_new();
    driver.mutation_states = states_max > 0 ? states_max : MUTATION_STATES;
    driver.place_seconds = has_seconds ? seconds_max : 0;
    if (has_seed && !mutate)
        return run_times(&driver, seed, times);
    if (!has_seed)
        seed = seed_start(suite->name);
    return mutate ? run_mutations(&driver, seed) : run_many(&driver, seed, states_max, seconds_max);
}
