/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep.c - every call of the disk and every allocation fails, one place after the other
 *
 *   sweep                          every place that a scenario reaches, in every way that it can fail
 *   sweep --trials N [--seed N]    a sample
 *   sweep --scenario NAME          one of them only
 *   sweep --calls N                of each place at most so many calls fail in turn (9)
 *   sweep --only 'TEXT|TEXT'       places whose description has one of these texts
 *   sweep --repeat 'PLAN'          one trial, as a failure prints it
 *
 * In the end: how many places there are, how many were reached and have failed once and with all
 * later calls, and which were not.
 */
#include "tests/sweep/sweep.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "tests/lib/seed.h"
#include "tests/lib/test_directory.h"
#include "tests/sweep/plan.h"

#define HITS_MAX   9
#define CPU_S      120
#define PATIENCE_S 1800 /* the machine may stand still */
#define TAIL_SIZE  6000

static const struct sweep_scenario *const scenarios[] = {
    &sweep_fs,      &sweep_start,  &sweep_make,   &sweep_look,    &sweep_clone,   &sweep_repair,
    &sweep_rebuild, &sweep_remake, &sweep_replay, &sweep_pieces,  &sweep_refused, &sweep_back,
    &sweep_move,    &sweep_large,  &sweep_many,   &sweep_damaged, &sweep_changes, &sweep_readonly,
    &sweep_counts,  &sweep_sealed, &sweep_regain, &sweep_pending, &sweep_around,
};
#define SCENARIOS (sizeof scenarios / sizeof *scenarios)

static const struct sweep_scenario *scenario;
static char *directory;
static const char *only;
static uint64_t trials, failures, random_state, calls_max = HITS_MAX;

/* ---- in the child ---- */

void sweep_wrong(const char *file, int line, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "\nwrong: %s:%d: ", file, line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _exit(3);
}

bool sweep_is_expected(int error)
{
    const struct plan *plan = plan_present();

    if (error == 0 || !plan_struck())
        return false;
    return error == plan_error(plan->class_) || error == ERROR_LATCHED || error == -EROFS ||
           (plan->second.hit > 0 && error == plan_error(plan->second_class));
}

static void run_child(const char *where)
{
    struct rlimit cpu = {CPU_S, CPU_S + 5};
    char *log = test_path(directory, "log");
    int descriptor = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    free(log);
    dup2(descriptor, STDERR_FILENO);
    close(descriptor);
    setrlimit(RLIMIT_CPU, &cpu);
    alarm(PATIENCE_S);
    scenario->run(where, trials % 2 != 0);
    exit(0);
}

/* ---- a trial ---- */

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
    char command[9000];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    if (system(command) != 0) {
        fprintf(stderr, "sweep: failed: %s\n", command);
        exit(2);
    }
}

static void print_log(void)
{
    char *path = test_path(directory, "log");
    size_t size;
    uint8_t *log = test_file_read(path, &size);
    size_t from = size > TAIL_SIZE ? size - TAIL_SIZE : 0;

    printf("%.*s\n", (int)(size - from), (char *)log + from);
    free(log);
    free(path);
}

static bool run_trial(const struct plan *plan)
{
    char text[600];
    int status;
    pid_t child;

    shell("rm -rf '%s/trial' && cp -a '%s/prepared' '%s/trial'", directory, directory, directory);
    plan_choose(plan);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        char *where = test_path(directory, "trial");

        run_child(where);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        abort();
    trials++;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    failures++;
    plan_describe(plan, text, sizeof text);
    print_log();
    printf("FAILED (%s %d): --scenario %s --repeat '%s'\n",
           WIFSIGNALED(status) ? "signal" : "status",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), scenario->name, text);
    return false;
}

static void prepare(void)
{
    const struct plan none = {.for_ever = false};
    char *where = test_path(directory, "prepared");
    int status;
    pid_t child;

    shell("rm -rf '%s' && mkdir '%s'", where, where);
    plan_choose(&none);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        if (scenario->prepare != NULL)
            scenario->prepare(where);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        abort();
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "sweep: %s cannot be prepared\n", scenario->name);
        exit(2);
    }
    free(where);
}

/* ---- choosing ---- */

/* Which of so many calls of a place fail: the first ones, and some between them and the last. */
static size_t choose_hits(uint64_t count, uint64_t hits[HITS_MAX])
{
    const uint64_t wanted[HITS_MAX] = {1, count / 2, count,    2, count / 4, count * 3 / 4,
                                       3, count / 8, count - 1};
    size_t chosen = 0;

    for (size_t i = 0; i < HITS_MAX && chosen < calls_max; i++) {
        bool is_new = wanted[i] > 0 && wanted[i] <= count;

        for (size_t j = 0; j < chosen; j++)
            is_new &= hits[j] != wanted[i];
        if (is_new)
            hits[chosen++] = wanted[i];
    }
    return chosen;
}

static bool has_one_of(const struct plan *plan, const char *texts)
{
    char description[600], words[4000], *rest = words, *word;

    plan_describe(plan, description, sizeof description);
    snprintf(words, sizeof words, "%s", texts);
    while ((word = strsep(&rest, "|")) != NULL)
        if (strstr(description, word) != NULL)
            return true;
    return false;
}

static bool is_wanted(const struct plan *plan)
{
    return only == NULL || has_one_of(plan, only);
}

/* Was it failed in both ways by an earlier scenario? */
static bool has_passed(unsigned site)
{
    const struct plan_record *record = plan_record(site);
    const struct plan plan = {.first = {site, 1}};

    return scenario->is_rest && record->failed_once && record->failed_for_ever &&
           (scenario->also == NULL || !has_one_of(&plan, scenario->also));
}

/* Places that this trial was the first to reach are failed in it later; better where one call failed
 * than all later ones, which the second would have to follow. */
static void note_reached(const struct plan *plan)
{
    for (unsigned i = 0; i < plan_count(); i++) {
        struct plan_record *record = plan_record(i);

        if (record->hits == 0 || plan->second.hit > 0 ||
            (record->has_reach && (plan->for_ever || !record->reach.for_ever)))
            continue;
        record->has_reach = true;
        record->reach = *plan;
    }
}

static void sweep_place(unsigned site, uint64_t count)
{
    uint64_t hits[HITS_MAX];
    size_t chosen = choose_hits(count, hits);

    for (enum plan_class class_ = 0; class_ < PLAN_CLASSES; class_++) {
        for (size_t i = 0; plan_applies(site, class_) && i < 2 * chosen; i++) {
            struct plan plan = {class_, class_, i % 2 != 0, {site, hits[i / 2]}, {0, 0}};

            if (!is_wanted(&plan))
                continue;
            (void)run_trial(&plan);
            note_reached(&plan);
        }
    }
}

/* What only the handling of a failure reaches fails as the second, in the same class where both can. */
static void sweep_second(unsigned site)
{
    struct plan_record *record = plan_record(site);
    struct plan plan = record->reach;

    if (plan.first.hit == 0 || plan.second.hit != 0)
        return;
    for (enum plan_class class_ = 0; class_ < PLAN_CLASSES; class_++) {
        if (!plan_applies(site, class_))
            continue;
        for (int for_ever = 0; for_ever < 2; for_ever++) {
            plan.class_ = plan_applies(plan.first.site, class_) ? class_ : record->reach.class_;
            plan.second_class = class_;
            plan.for_ever = for_ever != 0;
            plan.second = (struct plan_strike){site, 1};
            if (!is_wanted(&plan))
                continue;
            (void)run_trial(&plan);
            note_reached(&plan);
        }
    }
}

/* The run in which nothing fails; how often each place is called. */
static void run_base(uint64_t counts[SWEEP_SITES_MAX])
{
    const struct plan none = {.for_ever = false};

    if (!run_trial(&none)) {
        printf("%s fails by itself\n", scenario->name);
        exit(1);
    }
    note_reached(&none);
    for (unsigned i = 0; i < plan_count(); i++)
        counts[i] = plan_record(i)->hits;
}

static void sweep_all(void)
{
    uint64_t counts[SWEEP_SITES_MAX], before = trials;

    run_base(counts);
    for (unsigned i = 0; i < plan_count(); i++)
        if (counts[i] > 0 && !has_passed(i))
            sweep_place(i, counts[i]);
    for (unsigned i = 0; i < plan_count(); i++)
        if (counts[i] == 0 && plan_record(i)->has_reach && !plan_record(i)->failed_once)
            sweep_second(i);
    printf("%s: %llu trials\n", scenario->name, (unsigned long long)(trials - before));
}

static void sweep_some(uint64_t wanted)
{
    uint64_t counts[SWEEP_SITES_MAX], before = trials;

    run_base(counts);
    while (trials - before < wanted) {
        unsigned site = (unsigned)seed_below(&random_state, plan_count());
        enum plan_class class_ = (enum plan_class)seed_below(&random_state, PLAN_CLASSES);
        struct plan plan = {class_, class_, seed_below(&random_state, 2) != 0, {site, 1}, {0, 0}};

        if (counts[site] == 0 || !plan_applies(site, class_))
            continue;
        plan.first.hit += seed_below(&random_state, 1 + seed_below(&random_state, counts[site]));
        (void)run_trial(&plan);
    }
    printf("%s: %llu trials\n", scenario->name, (unsigned long long)(trials - before));
}

/* ---- what became of each place ---- */

static void print_places(bool memory)
{
    size_t count = 0, ever = 0, once = 0, for_ever = 0;

    for (unsigned i = 0; i < plan_count(); i++) {
        const struct plan_record *record = plan_record(i);
        const struct sweep_site *site = sweep_site_at(i);

        if (plan_is_memory(i) != memory)
            continue;
        count++;
        ever += record->ever;
        once += record->failed_once;
        for_ever += record->failed_for_ever;
        if (!record->failed_once || !record->failed_for_ever)
            printf("  %s: %s:%d %s %s\n",
                   !record->ever          ? "not reached"
                   : !record->failed_once ? "not failed once"
                                          : "not failed for ever",
                   site->file, site->line, site->function, site->call);
    }
    printf("%s: %zu places, %zu reached; %zu failed once, %zu with all later ones\n",
           memory ? "allocations" : "calls of the disk", count, ever, once, for_ever);
}

/* ---- the command line ---- */

static struct plan parse_plan(const char *text)
{
    struct plan plan = {.class_ = PLAN_CLASSES};
    const char *at;

    for (enum plan_class class_ = 0; class_ < PLAN_CLASSES; class_++)
        if (strncmp(text, plan_class_name(class_), strlen(plan_class_name(class_))) == 0)
            plan.class_ = class_;
    plan.for_ever = strstr(text, "for-ever") != NULL;
    for (at = text; (at = strchr(at, ' ')) != NULL; at++) {
        struct plan_strike *strike = plan.first.hit == 0 ? &plan.first : &plan.second;
        unsigned long long hit;
        unsigned site;

        if (sscanf(at, " %u:%llu ", &site, &hit) == 2 && site < plan_count())
            *strike = (struct plan_strike){site, hit};
    }
    plan.second_class = plan.class_;
    for (enum plan_class class_ = 0; class_ < PLAN_CLASSES && strchr(text, '+') != NULL; class_++)
        if (strncmp(strchr(text, '+') + 1, plan_class_name(class_),
                    strlen(plan_class_name(class_))) == 0)
            plan.second_class = class_;
    if (plan.class_ == PLAN_CLASSES) {
        fprintf(stderr, "sweep: no plan: %s\n", text);
        exit(2);
    }
    return plan;
}

static void take(const struct sweep_scenario *one, const char *repeat, uint64_t sample)
{
    uint64_t counts[SWEEP_SITES_MAX];
    struct plan plan;

    scenario = one;
    prepare();
    if (repeat != NULL) {
        run_base(counts);
        plan = parse_plan(repeat);
        if (run_trial(&plan))
            printf("passed\n");
        print_log();
    } else if (sample > 0) {
        sweep_some(sample);
    } else {
        sweep_all();
    }
}

int main(int count, char **arguments)
{
    const char *name = NULL, *repeat = NULL;
    uint64_t sample = 0;

    for (int i = 1; i < count; i += 2) {
        if (i + 1 == count) {
            fprintf(stderr, "sweep: %s needs a value\n", arguments[i]);
            return 2;
        }
        if (strcmp(arguments[i], "--trials") == 0)
            sample = strtoull(arguments[i + 1], NULL, 10);
        else if (strcmp(arguments[i], "--calls") == 0)
            calls_max = strtoull(arguments[i + 1], NULL, 10);
        else if (strcmp(arguments[i], "--seed") == 0)
            setenv("VARVE_TEST_SEED", arguments[i + 1], true);
        else if (strcmp(arguments[i], "--scenario") == 0)
            name = arguments[i + 1];
        else if (strcmp(arguments[i], "--only") == 0)
            only = arguments[i + 1];
        else if (strcmp(arguments[i], "--repeat") == 0)
            repeat = arguments[i + 1];
        else
            return fprintf(stderr, "sweep: unknown option %s\n", arguments[i]), 2;
    }
    random_state = seed_start("sweep");
    directory = test_directory_make();
    plan_start();
    for (size_t i = 0; i < SCENARIOS; i++)
        if (name == NULL ? sample == 0 || !scenarios[i]->is_slow
                         : strcmp(name, scenarios[i]->name) == 0)
            take(scenarios[i], repeat, sample > 0 ? (sample + SCENARIOS - 1) / SCENARIOS : 0);
    if (sample == 0 && repeat == NULL) {
        print_places(true);
        print_places(false);
    }
    printf("%llu trials, %llu failed\n", (unsigned long long)trials, (unsigned long long)failures);
    test_directory_remove(directory);
    return failures > 0 ? 1 : 0;
}
