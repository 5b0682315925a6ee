/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_trial.c - the children and what they say
 */
#include "tests/rot/rot_trial.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRIAL_SECONDS    300
#define TRIALS_A_CHILD   500
#define LINES_SHOWN_MAX  40
#define PROGRESS_SECONDS 60
/* Of the engine's threads; ThreadSanitizer keeps some of its own there. */
#ifdef __SANITIZE_THREAD__
#define STACK_SIZE (2 * 1024 * 1024)
#else
#define STACK_SIZE (256 * 1024)
#endif
#define HALVES_MAX 256

static const char *const outcome_names[ROT_OUTCOMES] = {"harmless", "detected", "refused",
                                                        "WRONG",    "CRASHED",  "HUNG"};

struct range {
    uint64_t first, end;
};

/* Shared with the children. */
struct state {
    uint64_t next; /* group that nobody has taken */
    struct range halves[HALVES_MAX];
    size_t half_count;
    struct range current;
    char what[ROT_WHAT_SIZE];
    uint64_t trials, counts[ROT_OUTCOMES], refusals, shown;
    bool is_busy, is_done;
};

struct run {
    const struct rot_trials *trials;
    const struct rot_plan *plan;
    struct state *state;
    int log, terminal; /* where a child's messages go; where ours do */
};

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "rot: %s\n", what);
    _exit(2);
}

/* The manifest reserves room on a disk before it commits. Of memory there is enough, and to be given
 * four MiB of it and to give them back took half of a trial's time. The linker puts these two in between. */
int __wrap_fallocate64(int descriptor, int mode, off_t offset, off_t size);

int __wrap_fallocate64(int descriptor, int mode, off_t offset, off_t size)
{
    (void)descriptor;
    (void)offset;
    (void)size;
    require(mode == FALLOC_FL_KEEP_SIZE, "fallocate");
    return 0;
}

/* Naming a thread is an open, a write and a close in /proc. */
int __wrap_pthread_setname_np(pthread_t thread, const char *name);

int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
    (void)thread;
    (void)name;
    return 0;
}

/* ---- what is said ---- */

static void show_log(const struct run *run)
{
    char text[4096];
    ssize_t size = pread(run->log, text, sizeof text, 0);

    if (size > 0)
        (void)!write(run->terminal, text, (size_t)size);
}

static void show(const struct run *run, enum rot_outcome outcome)
{
    struct state *state = run->state;

    if (outcome < WRONG && !run->trials->verbose)
        return;
    if (state->shown++ >= LINES_SHOWN_MAX && !run->trials->verbose)
        return;
    dprintf(run->terminal, "%s: %s\n", outcome_names[outcome], state->what);
    show_log(run);
}

/* A refusal that does not say what is damaged helps nobody. */
static bool names_something(const struct run *run)
{
    char first;

    return pread(run->log, &first, 1, 0) > 0;
}

/* ---- which comes next ---- */

static bool take_range(struct run *run)
{
    struct state *state = run->state;

    if (state->half_count > 0) {
        state->current = state->halves[--state->half_count];
        return true;
    }
    if (state->next == run->plan->groups)
        return false;
    run->plan->group(run->plan->context, state->next++, &state->current.first, &state->current.end);
    return true;
}

static void halve(struct state *state)
{
    uint64_t middle = state->current.first + (state->current.end - state->current.first) / 2;

    require(state->half_count + 2 <= HALVES_MAX, "too many halves");
    state->halves[state->half_count++] = (struct range){middle, state->current.end};
    state->halves[state->half_count++] = (struct range){state->current.first, middle};
}

/* ---- a trial, in a child ---- */

static enum rot_outcome look(const struct run *run, uint64_t *ret_refusals)
{
    const struct rot_trials *trials = run->trials;
    struct engine *engine;
    struct rot_tree tree;
    enum rot_outcome outcome;
    struct fs *fs;
    const char *lie;

    *ret_refusals = 0;
    if (rot_store_open(trials->store, trials->work_path, &engine, &fs) < 0)
        return REFUSED;
    rot_tree_read(&tree, fs, trials->expected);
    lie = rot_tree_compare(trials->expected, &tree);
    if (lie != NULL)
        fprintf(stderr, "lie: %s\n", lie);
    outcome = lie != NULL ? WRONG : tree.errors > 0 ? DETECTED : HARMLESS;
    *ret_refusals = tree.errors;
    rot_tree_free(&tree);
    fs_close(fs);
    (void)engine_close(engine);
    return outcome;
}

static enum rot_outcome judge(const struct run *run, const struct rot_expectation *expectation,
                              enum rot_outcome outcome, uint64_t refusals)
{
    if ((outcome == REFUSED || outcome == DETECTED) && !names_something(run))
        return WRONG;
    if (expectation->is_exact && outcome < WRONG &&
        (outcome == REFUSED || refusals != expectation->refusals)) {
        fprintf(stderr, "%llu reads were refused instead of %llu\n", (unsigned long long)refusals,
                (unsigned long long)expectation->refusals);
        return WRONG;
    }
    return outcome;
}

static void one_trial(struct run *run)
{
    struct state *state = run->state;
    const struct rot_plan *plan = run->plan;
    struct rot_expectation expectation = {0};
    struct range range = state->current;
    enum rot_outcome outcome;
    uint64_t refusals;

    require(ftruncate(run->log, 0) == 0 && lseek(run->log, 0, SEEK_SET) == 0, "log");
    if (!plan->apply(plan->context, range.first, range.end, state->what, &expectation)) {
        plan->undo(plan->context, range.first, range.end);
        return;
    }
    rot_image_restore(&run->trials->store->image, run->trials->work_path);
    state->is_busy = true;
    (void)alarm(TRIAL_SECONDS);
    outcome = look(run, &refusals);
    outcome = judge(run, &expectation, outcome, refusals);
    (void)alarm(0);
    state->is_busy = false;
    plan->undo(plan->context, range.first, range.end);
    state->trials++;
    if (outcome >= WRONG && range.end - range.first > 1) {
        halve(state);
        return;
    }
    state->refusals += refusals;
    if (range.end - range.first > 1) {
        state->counts[DETECTED] += expectation.harmful;
        state->counts[HARMLESS] += range.end - range.first - expectation.harmful;
    } else {
        state->counts[outcome]++;
    }
    show(run, outcome);
}

/* Memory that is given back is asked for again by the next trial, a page fault for each page. */
static void keep_memory(void)
{
    pthread_attr_t attributes;

    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_ARENA_MAX, 1);
    require(pthread_attr_init(&attributes) == 0 &&
                pthread_attr_setstacksize(&attributes, STACK_SIZE) == 0 &&
                pthread_setattr_default_np(&attributes) == 0,
            "stacks");
    (void)pthread_attr_destroy(&attributes);
}

static void child(struct run *run)
{
    const struct rot_trials *trials = run->trials;

    (void)dup2(run->log, STDERR_FILENO);
    keep_memory();
    rot_image_store(&trials->store->image, trials->work_path);
    for (unsigned i = 0; i < TRIALS_A_CHILD; i++) {
        if (!take_range(run)) {
            run->state->is_done = true;
            break;
        }
        one_trial(run);
    }
    /* That sealed files were left alone was told by their inodes: were they? */
    if (!rot_image_matches(&trials->store->image, trials->work_path)) {
        dprintf(run->terminal, "rot: a sealed file was written to\n");
        _exit(3);
    }
    _exit(0);
}

/* ---- the children ---- */

static void blame(struct run *run, int status)
{
    struct state *state = run->state;
    enum rot_outcome outcome = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? HUNG : CRASHED;

    require(state->is_busy, "a child ended between two trials");
    state->is_busy = false;
    state->trials++;
    if (state->current.end - state->current.first > 1) {
        halve(state);
        return;
    }
    state->counts[outcome]++;
    show(run, outcome);
}

static void print_counts(const struct state *state, bool is_last)
{
    printf("%s%llu trials: ", is_last ? "" : "... ", (unsigned long long)state->trials);
    for (int i = 0; i < ROT_OUTCOMES; i++)
        printf("%s%llu %s", i > 0 ? ", " : "", (unsigned long long)state->counts[i],
               outcome_names[i]);
    printf("; %llu reads refused\n", (unsigned long long)state->refusals);
    fflush(stdout);
}

static void run_children(struct run *run)
{
    time_t said = time(NULL);

    while (!run->state->is_done) {
        int status = 0;
        pid_t process;

        fflush(NULL);
        process = fork();
        require(process >= 0, "fork");
        if (process == 0)
            child(run);
        require(waitpid(process, &status, 0) == process, "waitpid");
        if (WIFEXITED(status) && WEXITSTATUS(status) > 1)
            exit(2);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            blame(run, status);
        if (time(NULL) - said >= PROGRESS_SECONDS) {
            print_counts(run->state, false);
            said = time(NULL);
        }
    }
}

bool rot_trials_run(const struct rot_trials *trials, const struct rot_plan *plan)
{
    struct run run = {.trials = trials, .plan = plan};
    const uint64_t *counts;

    run.state =
        mmap(NULL, sizeof *run.state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    run.log = memfd_create("log", MFD_CLOEXEC);
    run.terminal = dup(STDERR_FILENO);
    require(run.state != MAP_FAILED && run.log >= 0 && run.terminal >= 0, "shared memory");
    run_children(&run);
    print_counts(run.state, true);
    counts = run.state->counts;
    return counts[WRONG] + counts[CRASHED] + counts[HUNG] == 0;
}
