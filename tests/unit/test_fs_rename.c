/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_rename.c - rename in every combination, and random trees against a plain model
 */
#include <pthread.h>

#include "tests/lib/fs_fixture.h"
#include "tests/lib/seed.h"

static int rename_to(struct fs_fixture *fixture, uint64_t from_parent, const char *from,
                     uint64_t to_parent, const char *to, unsigned flags)
{
    return fs_rename(fixture->fs, from_parent, from, to_parent, to, flags, &fs_fixture_root);
}

static int move(struct fs_fixture *fixture, const char *from, const char *to)
{
    return rename_to(fixture, FS_ROOT, from, FS_ROOT, to, 0);
}

static void a_file_gets_its_new_name_and_loses_the_old(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "a");
    struct fs_attribute before = fs_fixture_attribute(fixture, file), after;
    struct fs_attribute root = fs_fixture_attribute(fixture, FS_ROOT);

    assert_int_equal(move(fixture, "a", "b"), 0);
    assert_int_equal(fs_fixture_exists(fixture, FS_ROOT, "a"), -ENOENT);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "b"), file);
    after = fs_fixture_attribute(fixture, file);
    assert_int_equal(after.nlink, 1);
    assert_true(fs_fixture_is_later(after.ctime, before.ctime));
    assert_memory_equal(&after.mtime, &before.mtime, sizeof after.mtime);
    assert_true(fs_fixture_is_later(fs_fixture_attribute(fixture, FS_ROOT).mtime, root.mtime));
    assert_int_equal(move(fixture, "a", "c"), -ENOENT);
}

static void an_existing_file_is_replaced(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t a = fs_fixture_file(fixture, FS_ROOT, "a");
    uint64_t b = fs_fixture_file(fixture, FS_ROOT, "b");
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t c = fs_fixture_file(fixture, directory, "c");
    struct fs_entry entry;

    fs_fixture_write(fixture, b, "still read");
    assert_int_equal(move(fixture, "a", "b"), 0);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "b"), a);
    assert_int_equal(fs_fixture_exists(fixture, FS_ROOT, "a"), -ENOENT);
    assert_int_equal(fs_fixture_attribute(fixture, b).nlink, 0);
    fs_fixture_assert_text(fixture, b, "still read");
    fs_forget(fixture->fs, b, 1);
    assert_int_equal(fs_getattr(fixture->fs, b, &entry), -ESTALE);

    assert_int_equal(rename_to(fixture, directory, "c", FS_ROOT, "b", 0), 0);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "b"), c);
    assert_int_equal(fs_fixture_attribute(fixture, directory).size_bytes, 0);
    assert_int_equal(fs_fixture_attribute(fixture, FS_ROOT).size_bytes, 2);
}

static void a_replaced_file_that_nobody_holds_goes_at_once(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t b = fs_fixture_file(fixture, FS_ROOT, "b");
    struct fs_entry entry;

    fs_fixture_file(fixture, FS_ROOT, "a");
    fs_forget(fixture->fs, b, 1);
    assert_int_equal(move(fixture, "a", "b"), 0);
    assert_int_equal(fs_getattr(fixture->fs, b, &entry), -ESTALE);
}

static void a_replaced_file_with_other_names_keeps_them(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t b = fs_fixture_file(fixture, FS_ROOT, "b");
    struct fs_entry entry;

    fs_fixture_file(fixture, FS_ROOT, "a");
    assert_int_equal(fs_link(fixture->fs, b, FS_ROOT, "c", &fs_fixture_root, &entry), 0);
    assert_int_equal(move(fixture, "a", "b"), 0);
    assert_int_equal(fs_fixture_attribute(fixture, b).nlink, 1);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "c"), b);
}

static void onto_a_link_of_itself_nothing_happens(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t a = fs_fixture_file(fixture, FS_ROOT, "a");
    struct fs_entry entry;

    assert_int_equal(fs_link(fixture->fs, a, FS_ROOT, "b", &fs_fixture_root, &entry), 0);
    assert_int_equal(move(fixture, "a", "b"), 0);
    assert_int_equal(move(fixture, "a", "a"), 0);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "a"), a);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "b"), a);
    assert_int_equal(fs_fixture_attribute(fixture, a).nlink, 2);
    assert_int_equal(rename_to(fixture, FS_ROOT, "a", FS_ROOT, "b", RENAME_NOREPLACE), -EEXIST);
}

static void a_directory_takes_the_place_of_an_empty_one_only(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t a = fs_fixture_directory(fixture, FS_ROOT, "a");
    uint64_t b = fs_fixture_directory(fixture, FS_ROOT, "b");
    uint64_t full = fs_fixture_directory(fixture, FS_ROOT, "full");

    fs_fixture_file(fixture, full, "f");
    fs_fixture_file(fixture, FS_ROOT, "file");
    assert_int_equal(move(fixture, "a", "full"), -ENOTEMPTY);
    assert_int_equal(move(fixture, "a", "file"), -ENOTDIR);
    assert_int_equal(move(fixture, "file", "a"), -EISDIR);
    assert_int_equal(move(fixture, "a", "b"), 0);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "b"), a);
    assert_int_equal(fs_fixture_attribute(fixture, b).nlink, 0);
    assert_int_equal(fs_fixture_attribute(fixture, FS_ROOT).nlink, 4);
}

static void a_directory_that_moves_takes_its_link_along(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t a = fs_fixture_directory(fixture, FS_ROOT, "a");
    uint64_t b = fs_fixture_directory(fixture, FS_ROOT, "b");
    uint64_t child = fs_fixture_directory(fixture, a, "child");

    assert_int_equal(rename_to(fixture, a, "child", b, "moved", 0), 0);
    assert_int_equal(fs_fixture_attribute(fixture, a).nlink, 2);
    assert_int_equal(fs_fixture_attribute(fixture, b).nlink, 3);
    assert_int_equal(fs_fixture_hold(fixture, child, ".."), b);

    /* Onto an empty directory there: that one's link goes, this one's comes. */
    fs_fixture_directory(fixture, FS_ROOT, "third");
    assert_int_equal(rename_to(fixture, b, "moved", FS_ROOT, "third", 0), 0);
    assert_int_equal(fs_fixture_attribute(fixture, b).nlink, 2);
    assert_int_equal(fs_fixture_attribute(fixture, FS_ROOT).nlink, 5);
    assert_int_equal(fs_fixture_hold(fixture, child, ".."), FS_ROOT);
}

static void no_directory_becomes_its_own_descendant(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t a = fs_fixture_directory(fixture, FS_ROOT, "a");
    uint64_t b = fs_fixture_directory(fixture, a, "b");
    uint64_t c = fs_fixture_directory(fixture, b, "c");

    assert_int_equal(rename_to(fixture, FS_ROOT, "a", a, "x", 0), -EINVAL);
    assert_int_equal(rename_to(fixture, FS_ROOT, "a", c, "x", 0), -EINVAL);
    assert_int_equal(rename_to(fixture, FS_ROOT, "a", b, "c", 0), -EINVAL);
    assert_int_equal(rename_to(fixture, FS_ROOT, "a", b, "c", RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(rename_to(fixture, b, "c", FS_ROOT, "a", RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(rename_to(fixture, b, "c", FS_ROOT, "a", 0), -ENOTEMPTY);
    assert_int_equal(rename_to(fixture, a, "b", FS_ROOT, "a", 0), -ENOTEMPTY);
    assert_int_equal(fs_fixture_hold(fixture, c, ".."), b);
}

static void exchange_swaps_two_names(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    uint64_t child = fs_fixture_directory(fixture, directory, "child");
    uint64_t other = fs_fixture_directory(fixture, FS_ROOT, "other");

    assert_int_equal(rename_to(fixture, FS_ROOT, "f", FS_ROOT, "none", RENAME_EXCHANGE), -ENOENT);
    assert_int_equal(rename_to(fixture, FS_ROOT, "f", FS_ROOT, "f", RENAME_EXCHANGE), 0);
    /* A file and a directory of two parents. */
    assert_int_equal(rename_to(fixture, FS_ROOT, "f", directory, "child", RENAME_EXCHANGE), 0);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "f"), child);
    assert_int_equal(fs_fixture_hold(fixture, directory, "child"), file);
    assert_int_equal(fs_fixture_hold(fixture, child, ".."), FS_ROOT);
    assert_int_equal(fs_fixture_attribute(fixture, directory).nlink, 2);
    assert_int_equal(fs_fixture_attribute(fixture, FS_ROOT).nlink, 5);
    assert_int_equal(fs_fixture_attribute(fixture, file).nlink, 1);
    /* Back again, the other way round. */
    assert_int_equal(rename_to(fixture, FS_ROOT, "f", directory, "child", RENAME_EXCHANGE), 0);
    assert_int_equal(fs_fixture_attribute(fixture, directory).nlink, 3);
    /* Two directories of one parent. */
    assert_int_equal(rename_to(fixture, FS_ROOT, "d", FS_ROOT, "other", RENAME_EXCHANGE), 0);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "d"), other);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "other"), directory);
}

static void a_whiteout_takes_the_place_of_what_moved(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "a");
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d"), left;
    struct fs_attribute attribute;

    assert_int_equal(
        rename_to(fixture, FS_ROOT, "a", directory, "b", RENAME_WHITEOUT | RENAME_NOREPLACE), 0);
    assert_int_equal(fs_fixture_hold(fixture, directory, "b"), file);
    left = fs_fixture_hold(fixture, FS_ROOT, "a");
    attribute = fs_fixture_attribute(fixture, left);
    assert_int_equal(attribute.mode, S_IFCHR);
    assert_int_equal(attribute.rdev, 0);
    assert_int_equal(attribute.nlink, 1);
    /* Back over it: within the directory this time, and onto a name that is there. */
    assert_int_equal(rename_to(fixture, directory, "b", FS_ROOT, "a", 0), 0);
    assert_int_equal(rename_to(fixture, FS_ROOT, "a", FS_ROOT, "c", RENAME_WHITEOUT), 0);
    assert_int_equal(rename_to(fixture, FS_ROOT, "c", FS_ROOT, "a", RENAME_WHITEOUT), 0);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "a"), file);
    assert_int_equal(fs_fixture_attribute(fixture, fs_fixture_hold(fixture, FS_ROOT, "c")).mode,
                     S_IFCHR);
}

static void flags_and_names_are_checked(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "a");
    char name[FS_NAME_SIZE_MAX + 2];

    memset(name, 'n', sizeof name);
    name[FS_NAME_SIZE_MAX + 1] = '\0';
    fs_fixture_file(fixture, FS_ROOT, "b");
    assert_int_equal(rename_to(fixture, FS_ROOT, "a", FS_ROOT, "b", RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(rename_to(fixture, FS_ROOT, "a", FS_ROOT, "c", RENAME_NOREPLACE), 0);
    assert_int_equal(
        rename_to(fixture, FS_ROOT, "c", FS_ROOT, "b", RENAME_WHITEOUT | RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(rename_to(fixture, FS_ROOT, "c", FS_ROOT, "b", 8), -EINVAL);
    assert_int_equal(
        rename_to(fixture, FS_ROOT, "c", FS_ROOT, "b", RENAME_NOREPLACE | RENAME_EXCHANGE),
        -EINVAL);
    assert_int_equal(move(fixture, "c", name), -ENAMETOOLONG);
    assert_int_equal(move(fixture, "c", ""), -ENOENT);
    assert_int_equal(move(fixture, "c", "."), -EBUSY);
    assert_int_equal(move(fixture, "..", "x"), -EBUSY);
    assert_int_equal(move(fixture, "c", ".snapshots"), -EBUSY);
    assert_int_equal(move(fixture, ".snapshots", "x"), -EBUSY);
    assert_int_equal(rename_to(fixture, file, "x", FS_ROOT, "y", 0), -ENOTDIR);
    assert_int_equal(rename_to(fixture, FS_ROOT, "c", file, "y", 0), -ENOTDIR);
    assert_int_equal(rename_to(fixture, FS_ROOT, "c", 4711, "y", 0), -ESTALE);
}

/* ---- random trees against a model ---- */

#define INODES 24
#define NAMES  5

struct model_inode {
    uint64_t node; /* 0: unused */
    bool directory;
    int children[NAMES]; /* index of the inode, or -1 */
    int parent;
};

struct model {
    struct model_inode inodes[INODES]; /* [0] is the root */
};

static const char *const model_names[NAMES] = {"a", "b", "c", "d", "e"};

static bool model_is_empty(const struct model_inode *inode)
{
    for (int i = 0; i < NAMES; i++)
        if (inode->children[i] >= 0)
            return false;
    return true;
}

static bool model_is_within(const struct model *model, int inode, int under)
{
    while (inode != under && inode != 0)
        inode = model->inodes[inode].parent;
    return inode == under;
}

/* What rename must answer, in the order in which it is checked; 1: nothing to do. */
static int model_rename_result(const struct model *model, int from_parent, int from, int to_parent,
                               int to, unsigned flags)
{
    const struct model_inode *source, *target;

    if (from < 0)
        return -ENOENT;
    if (to >= 0 && (flags & RENAME_NOREPLACE) != 0)
        return -EEXIST;
    if (to < 0 && (flags & RENAME_EXCHANGE) != 0)
        return -ENOENT;
    if (from == to)
        return 1;
    source = &model->inodes[from];
    target = to >= 0 ? &model->inodes[to] : NULL;
    if (source->directory && model_is_within(model, to_parent, from))
        return -EINVAL;
    if ((flags & RENAME_EXCHANGE) != 0)
        return target->directory && model_is_within(model, from_parent, to) ? -EINVAL : 0;
    if (target == NULL)
        return 0;
    if (source->directory && !target->directory)
        return -ENOTDIR;
    if (!source->directory && target->directory)
        return -EISDIR;
    return target->directory && !model_is_empty(target) ? -ENOTEMPTY : 0;
}

static int model_random_directory(const struct model *model, uint64_t *seed)
{
    int index;

    do
        index = (int)seed_below(seed, INODES);
    while (model->inodes[index].node == 0 || !model->inodes[index].directory);
    return index;
}

static void model_create(struct fs_fixture *fixture, struct model *model, uint64_t *seed)
{
    int parent = model_random_directory(model, seed);
    int name = (int)seed_below(seed, NAMES);
    bool directory = seed_below(seed, 2) == 0;
    struct model_inode *inode;
    int index = 0;

    while (index < INODES && model->inodes[index].node != 0)
        index++;
    if (index == INODES || model->inodes[parent].children[name] >= 0)
        return;
    inode = &model->inodes[index];
    inode->node = fs_fixture_make(fixture, model->inodes[parent].node, model_names[name],
                                  directory ? S_IFDIR | 0755 : S_IFREG | 0644)
                      .node;
    inode->directory = directory;
    inode->parent = parent;
    for (int i = 0; i < NAMES; i++)
        inode->children[i] = -1;
    model->inodes[parent].children[name] = index;
}

static void model_rename(struct fs_fixture *fixture, struct model *model, uint64_t *seed)
{
    static const unsigned all_flags[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    int from_parent = model_random_directory(model, seed);
    int to_parent = model_random_directory(model, seed);
    int from_name = (int)seed_below(seed, NAMES), to_name = (int)seed_below(seed, NAMES);
    unsigned flags = all_flags[seed_below(seed, 4)];
    int *from = &model->inodes[from_parent].children[from_name];
    int *to = &model->inodes[to_parent].children[to_name];
    int source = *from, target = *to;
    int expected = model_rename_result(model, from_parent, source, to_parent, target, flags);

    assert_int_equal(rename_to(fixture, model->inodes[from_parent].node, model_names[from_name],
                               model->inodes[to_parent].node, model_names[to_name], flags),
                     expected > 0 ? 0 : expected);
    if (expected != 0)
        return;
    *from = (flags & RENAME_EXCHANGE) != 0 ? target : -1;
    *to = source;
    model->inodes[source].parent = to_parent;
    if ((flags & RENAME_EXCHANGE) != 0) {
        model->inodes[target].parent = from_parent;
    } else if (target >= 0) {
        fs_forget(fixture->fs, model->inodes[target].node, 1);
        model->inodes[target].node = 0;
    }
}

static void model_compare(struct fs_fixture *fixture, const struct model *model)
{
    for (int index = 0; index < INODES; index++) {
        const struct model_inode *inode = &model->inodes[index];
        uint32_t links = 2;

        if (inode->node == 0 || !inode->directory)
            continue;
        for (int name = 0; name < NAMES; name++) {
            int child = inode->children[name];
            struct fs_entry entry;
            int error = fs_fixture_find(fixture, inode->node, model_names[name], &entry);

            assert_int_equal(error, child >= 0 ? 0 : -ENOENT);
            if (child < 0)
                continue;
            assert_int_equal(entry.attribute.node, model->inodes[child].node);
            links += model->inodes[child].directory;
        }
        assert_int_equal(fs_fixture_attribute(fixture, inode->node).nlink, links);
    }
}

static void random_renames_equal_the_model(void **state)
{
    struct fs_fixture *fixture = *state;
    struct model model = {0};
    uint64_t seed = seed_start(__func__);

    model.inodes[0] =
        (struct model_inode){.node = FS_ROOT, .directory = true, .children = {-1, -1, -1, -1, -1}};
    for (unsigned step = 0; step < 3000; step++) {
        if (seed_below(&seed, 4) == 0)
            model_create(fixture, &model, &seed);
        else
            model_rename(fixture, &model, &seed);
        if (step % 100 == 0) {
            model_compare(fixture, &model);
            fs_fixture_check(fixture);
        }
    }
    model_compare(fixture, &model);
    fs_fixture_reopen(fixture);
    model_compare(fixture, &model);
}

/* ---- threads ---- */

#define DIRECTORIES 10 /* the root among them */

struct mover {
    struct fs_fixture *fixture;
    pthread_barrier_t *begin;
    uint64_t directories[DIRECTORIES];
    uint64_t seed;
};

/* Move directories into each other: whatever the order, the tree must stay one. */
static void *move_directories(void *context)
{
    struct mover *mover = context;

    pthread_barrier_wait(mover->begin); /* or one is done before the next begins */
    for (unsigned round = 0; round < 1500; round++) {
        unsigned which = 1 + (unsigned)seed_below(&mover->seed, DIRECTORIES - 1);
        uint64_t to = mover->directories[seed_below(&mover->seed, DIRECTORIES)];
        char name[2] = {(char)('0' + which), 0};
        struct fs_entry parent;
        int error = fs_fixture_find(mover->fixture, mover->directories[which], "..", &parent);

        if (error == 0)
            error = rename_to(mover->fixture, parent.attribute.node, name, to, name, 0);
        if (error != 0 && error != -ENOENT && error != -EINVAL && error != -ENOTEMPTY)
            return context;
    }
    return NULL;
}

static void r25_directories_moved_into_each_other_make_no_loop(void **state)
{
    struct fs_fixture *fixture = *state;
    struct mover movers[3];
    pthread_t threads[3];
    uint64_t seed = seed_start(__func__);
    uint64_t directories[DIRECTORIES];
    pthread_barrier_t begin;

    assert_int_equal(pthread_barrier_init(&begin, NULL, 3), 0);
    directories[0] = FS_ROOT;
    for (int i = 1; i < DIRECTORIES; i++) {
        char name[2] = {(char)('0' + i), 0};

        directories[i] = fs_fixture_directory(fixture, FS_ROOT, name);
    }
    for (unsigned i = 0; i < 3; i++) {
        movers[i] = (struct mover){.fixture = fixture, .begin = &begin, .seed = seed + i};
        memcpy(movers[i].directories, directories, sizeof directories);
        assert_int_equal(pthread_create(&threads[i], NULL, move_directories, &movers[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        void *failed;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    pthread_barrier_destroy(&begin);
    /* From each directory the parents lead to the root. */
    for (int i = 1; i < DIRECTORIES; i++) {
        uint64_t at = directories[i];
        struct fs_entry entry;
        int depth = 0;

        while (at != FS_ROOT) {
            assert_int_equal(fs_fixture_find(fixture, at, "..", &entry), 0);
            at = entry.attribute.node;
            assert_true(++depth < DIRECTORIES);
        }
    }
}

struct crosser {
    struct fs_fixture *fixture;
    pthread_barrier_t *barrier;
    uint64_t from_parent, to_parent;
    const char *name;
    int result;
};

static void *cross_once(void *context)
{
    struct crosser *crosser = context;

    pthread_barrier_wait(crosser->barrier);
    crosser->result = rename_to(crosser->fixture, crosser->from_parent, crosser->name,
                                crosser->to_parent, crosser->name, 0);
    return NULL;
}

/* Moves that have no inode in common, each of which makes the other one a loop. */
static void of_two_crossing_moves_one_is_refused(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t p = fs_fixture_directory(fixture, FS_ROOT, "p");
    uint64_t q = fs_fixture_directory(fixture, FS_ROOT, "q");
    uint64_t a = fs_fixture_directory(fixture, p, "a"), x = fs_fixture_directory(fixture, a, "x");
    uint64_t b = fs_fixture_directory(fixture, q, "b"), y = fs_fixture_directory(fixture, b, "y");

    for (unsigned round = 0; round < 500; round++) {
        pthread_barrier_t barrier;
        struct crosser crossers[2] = {
            {.fixture = fixture, .from_parent = p, .to_parent = y, .name = "a"},
            {.fixture = fixture, .from_parent = q, .to_parent = x, .name = "b"},
        };
        pthread_t threads[2];

        assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
        for (int i = 0; i < 2; i++) {
            crossers[i].barrier = &barrier;
            assert_int_equal(pthread_create(&threads[i], NULL, cross_once, &crossers[i]), 0);
        }
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        pthread_barrier_destroy(&barrier);
        for (int i = 0; i < 2; i++) {
            assert_true(crossers[i].result == 0 || crossers[i].result == -EINVAL);
            assert_true(crossers[i].result == 0 || crossers[1 - i].result == 0);
            assert_false(crossers[i].result == 0 && crossers[1 - i].result == 0);
            if (crossers[i].result == 0)
                assert_int_equal(rename_to(fixture, crossers[i].to_parent, crossers[i].name,
                                           crossers[i].from_parent, crossers[i].name, 0),
                                 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(a_file_gets_its_new_name_and_loses_the_old),
        FS_FIXTURE_TEST(an_existing_file_is_replaced),
        FS_FIXTURE_TEST(a_replaced_file_that_nobody_holds_goes_at_once),
        FS_FIXTURE_TEST(a_replaced_file_with_other_names_keeps_them),
        FS_FIXTURE_TEST(onto_a_link_of_itself_nothing_happens),
        FS_FIXTURE_TEST(a_directory_takes_the_place_of_an_empty_one_only),
        FS_FIXTURE_TEST(a_directory_that_moves_takes_its_link_along),
        FS_FIXTURE_TEST(no_directory_becomes_its_own_descendant),
        FS_FIXTURE_TEST(exchange_swaps_two_names),
        FS_FIXTURE_TEST(a_whiteout_takes_the_place_of_what_moved),
        FS_FIXTURE_TEST(flags_and_names_are_checked),
        FS_FIXTURE_TEST(random_renames_equal_the_model),
        FS_FIXTURE_TEST(of_two_crossing_moves_one_is_refused),
        FS_FIXTURE_TEST(r25_directories_moved_into_each_other_make_no_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
