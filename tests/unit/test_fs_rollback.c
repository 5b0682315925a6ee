/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_rollback.c - the live tree goes back: exactly, with everything that must not go back
 */
#include "engine/base/error.h"
#include "fuse/fs_names.h"
#include "tests/lib/fs_play.h"

/* ---- what a tree shows ---- */

struct listing {
    struct buffer text;
    struct fs_fixture *fixture;
};

struct list_names {
    char names[64][FS_NAME_SIZE_MAX + 1];
    uint64_t nodes[64];
    size_t count;
};

static int take_name(void *context, const struct fs_directory_entry *entry)
{
    struct list_names *list = context;

    assert_true(list->count < 64);
    strcpy(list->names[list->count], entry->name);
    list->nodes[list->count++] = entry->number;
    return 0;
}

static struct list_names names_in(struct fs_fixture *fixture, uint64_t directory)
{
    struct list_names list = {.count = 0};
    struct fs_directory *stream;

    assert_int_equal(fs_directory_open(fixture->fs, directory, &stream), 0);
    assert_int_equal(fs_readdir(stream, 2, false, take_name, &list), 0);
    fs_directory_close(stream);
    return list;
}

/* One line for each name: path, attributes (no node, no link count), content. */
static void list_tree(struct listing *listing, uint64_t directory, const char *path)
{
    struct list_names list = names_in(listing->fixture, directory);

    for (size_t i = 0; i < list.count; i++) {
        char child[1024], line[2048];
        uint8_t data[16384];
        struct fs_entry entry;
        const struct fs_attribute *attribute = &entry.attribute;
        int64_t size = 0;
        int length;

        assert_int_equal(fs_lookup(listing->fixture->fs, directory, list.names[i], &entry), 0);
        assert_int_equal(attribute->node, list.nodes[i]);
        snprintf(child, sizeof child, "%s/%s", path, list.names[i]);
        length =
            snprintf(line, sizeof line, "%s %o %u %llu %lld.%09ld %lld.%09ld\n", child,
                     attribute->mode, attribute->uid, (unsigned long long)attribute->size_bytes,
                     (long long)attribute->mtime.tv_sec, attribute->mtime.tv_nsec,
                     (long long)attribute->ctime.tv_sec, attribute->ctime.tv_nsec);
        assert_int_equal(buffer_append(&listing->text, line, (size_t)length), 0);
        if (S_ISREG(attribute->mode)) {
            size = fs_read(listing->fixture->fs, attribute->node, 0, data, sizeof data, 0);
            assert_int_equal(size, attribute->size_bytes);
            assert_int_equal(buffer_append(&listing->text, data, (size_t)size), 0);
        }
        if (S_ISLNK(attribute->mode))
            assert_int_equal(fs_readlink(listing->fixture->fs, attribute->node, &listing->text), 0);
        if (S_ISDIR(attribute->mode))
            list_tree(listing, attribute->node, child);
        fs_forget(listing->fixture->fs, attribute->node, 1);
    }
}

static struct buffer text_of(struct fs_fixture *fixture, uint64_t root)
{
    struct listing listing = {.fixture = fixture};

    list_tree(&listing, root, "");
    return listing.text;
}

static void assert_text(struct fs_fixture *fixture, uint64_t root, const struct buffer *expected)
{
    struct buffer text = text_of(fixture, root);

    assert_int_equal(text.size, expected->size);
    if (text.size > 0)
        assert_memory_equal(text.data, expected->data, text.size);
    buffer_free(&text);
}

/* ---- short ways ---- */

static uint64_t take_snapshot(struct fs_fixture *fixture, const char *name)
{
    struct fs_entry entry;

    assert_int_equal(fs_mkdir(fixture->fs, fs_fixture_hold(fixture, FS_ROOT, ".snapshots"), name,
                              0755, &fs_fixture_root, &entry),
                     0);
    return entry.attribute.node;
}

static uint64_t snapshot_root(struct fs_fixture *fixture, const char *name)
{
    return fs_fixture_hold(fixture, fs_fixture_hold(fixture, FS_ROOT, ".snapshots"), name);
}

static const struct fs_notify quiet = {0};

static int roll_back(struct fs_fixture *fixture, const char *name, char *ret_before)
{
    char before[SNAPSHOT_NAME_SIZE_MAX + 1];

    return fs_rollback(fixture->fs, name, &quiet, ret_before != NULL ? ret_before : before);
}

/* ---- tests ---- */

static void the_tree_goes_back_and_the_one_before_is_kept(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t file = fs_fixture_file(fixture, directory, "file");
    char before[SNAPSHOT_NAME_SIZE_MAX + 1];
    struct buffer then, now;

    fs_fixture_write(fixture, file, "then");
    take_snapshot(fixture, "s");
    then = text_of(fixture, FS_ROOT);
    fs_fixture_write(fixture, file, "now, and longer");
    assert_int_equal(fs_rename(fixture->fs, FS_ROOT, "d", FS_ROOT, "e", 0, &fs_fixture_root), 0);
    fs_fixture_file(fixture, FS_ROOT, "new");
    now = text_of(fixture, FS_ROOT);

    assert_int_equal(roll_back(fixture, "s", before), 0);
    assert_text(fixture, FS_ROOT, &then);
    /* By the handles that the kernel has. */
    fs_fixture_assert_text(fixture, file, "then");
    assert_memory_equal(before, "before-rollback-", 16);
    assert_text(fixture, snapshot_root(fixture, before), &now);
    assert_text(fixture, snapshot_root(fixture, "s"), &then);
    fs_fixture_check(fixture);
    fs_fixture_reopen(fixture);
    assert_text(fixture, FS_ROOT, &then);
    assert_text(fixture, snapshot_root(fixture, before), &now);
    /* And back again. */
    assert_int_equal(roll_back(fixture, before, NULL), 0);
    assert_text(fixture, FS_ROOT, &now);
    assert_int_equal(roll_back(fixture, "none", NULL), -ENOENT);
    buffer_free(&then);
    buffer_free(&now);
}

static void inode_numbers_are_not_given_twice(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t highest = 0, after;

    take_snapshot(fixture, "s");
    for (int i = 0; i < 50; i++) {
        char name[16];

        snprintf(name, sizeof name, "f%d", i);
        highest = fs_fixture_file(fixture, FS_ROOT, name);
    }
    assert_int_equal(roll_back(fixture, "s", NULL), 0);
    after = fs_fixture_file(fixture, FS_ROOT, "after");
    assert_true(after > highest);
    fs_fixture_check(fixture); /* also by what is on the disk */
    fs_fixture_reopen(fixture);
    assert_true(fs_fixture_file(fixture, FS_ROOT, "later") > after);
}

static void what_the_kernel_holds_of_gone_files_is_stale(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_entry entry;
    uint64_t file;
    char byte;

    take_snapshot(fixture, "s");
    file = fs_fixture_file(fixture, FS_ROOT, "new");
    assert_int_equal(roll_back(fixture, "s", NULL), 0);
    assert_int_equal(fs_getattr(fixture->fs, file, &entry), -ESTALE);
    assert_int_equal(fs_read(fixture->fs, file, 0, &byte, 1, 0), -ESTALE);
    assert_int_equal(fs_write(fixture->fs, file, "x", 1, 0, false, false), -ESTALE);
    fs_forget(fixture->fs, file, 1);
}

static void files_that_were_open_without_a_name_go_when_nobody_holds_them(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t held = fs_fixture_file(fixture, FS_ROOT, "held");
    uint64_t named = fs_fixture_file(fixture, FS_ROOT, "named");
    uint64_t gone = fs_fixture_file(fixture, FS_ROOT, "gone");
    struct fs_entry entry;

    fs_fixture_write(fixture, held, "held");
    fs_fixture_write(fixture, named, "named");
    fs_fixture_write(fixture, gone, "gone");
    /* In the snapshot: two without a name; one of them is held until after the rollback. */
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "held", &fs_fixture_root), 0);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "gone", &fs_fixture_root), 0);
    take_snapshot(fixture, "s");
    fs_forget(fixture->fs, gone, 1);
    assert_int_equal(fs_getattr(fixture->fs, gone, &entry), -ESTALE);
    /* At the rollback: one that gets its name back. */
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "named", &fs_fixture_root), 0);
    assert_int_equal(roll_back(fixture, "s", NULL), 0);
    fs_fixture_assert_text(fixture, held, "held");
    assert_int_equal(fs_getattr(fixture->fs, gone, &entry), -ESTALE);
    fs_forget(fixture->fs, named, 1);
    assert_int_equal(fs_fixture_find(fixture, FS_ROOT, "named", &entry), 0);
    fs_fixture_assert_text(fixture, named, "named");
    fs_forget(fixture->fs, held, 1);
    assert_int_equal(fs_getattr(fixture->fs, held, &entry), -ESTALE);
}

/* ---- what the kernel is told ---- */

struct told {
    uint64_t nodes[4096];
    size_t node_count;
    struct {
        uint64_t directory;
        char name[32];
    } names[4096];
    size_t name_count;
};

static void tell_entry(void *context, uint64_t parent, const char *name)
{
    struct told *told = context;

    assert_true(told->name_count < 4096 && strlen(name) < 32);
    told->names[told->name_count].directory = parent;
    strcpy(told->names[told->name_count++].name, name);
}

static void tell_inode(void *context, uint64_t node)
{
    struct told *told = context;

    assert_true(told->node_count < 4096);
    told->nodes[told->node_count++] = node;
}

static bool was_told(const struct told *told, uint64_t node)
{
    for (size_t i = 0; i < told->node_count; i++)
        if (told->nodes[i] == node)
            return true;
    return false;
}

static bool name_was_told(const struct told *told, uint64_t directory, const char *name)
{
    for (size_t i = 0; i < told->name_count; i++)
        if (told->names[i].directory == directory && strcmp(told->names[i].name, name) == 0)
            return true;
    return false;
}

#define NAMES 8
static const char *const all_names[NAMES] = {"a", "b", "c", "d", "e", "f", "g", "h"};

/* What the kernel may have in its caches of one directory: each name, found or not. The lookups are
 * not given back. */
struct cached {
    uint64_t directory;
    bool exists;
    uint64_t nodes[NAMES]; /* 0: not there */
    struct fs_attribute attributes[NAMES];
};

static struct cached cache_directory(struct fs_fixture *fixture, uint64_t directory)
{
    struct cached cached = {.directory = directory};
    struct fs_entry entry;

    cached.exists = fs_getattr(fixture->fs, directory, &entry) == 0;
    for (int i = 0; i < NAMES; i++) {
        if (fs_lookup(fixture->fs, directory, all_names[i], &entry) < 0)
            continue;
        cached.nodes[i] = entry.attribute.node;
        cached.attributes[i] = entry.attribute;
    }
    return cached;
}

static bool differs(const struct fs_attribute *a, const struct fs_attribute *b)
{
    return a->mode != b->mode || a->nlink != b->nlink || a->size_bytes != b->size_bytes ||
           a->ctime.tv_sec != b->ctime.tv_sec || a->ctime.tv_nsec != b->ctime.tv_nsec;
}

static void check_cached(struct fs_fixture *fixture, const struct cached *cached,
                         const struct told *told)
{
    struct cached now = cache_directory(fixture, cached->directory);

    if (cached->exists != now.exists)
        assert_true(was_told(told, cached->directory));
    for (int i = 0; i < NAMES; i++) {
        if (cached->nodes[i] != now.nodes[i])
            assert_true(name_was_told(told, cached->directory, all_names[i]) || !now.exists);
        else if (cached->nodes[i] != 0 && differs(&cached->attributes[i], &now.attributes[i]))
            assert_true(was_told(told, cached->nodes[i]));
    }
}

/* ---- at random ---- */

struct past {
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    struct buffer text;
};

#define PASTS_MAX 40

/* Every name of every snapshot: how many there are of each node. */
struct census {
    uint64_t nodes[20000];
    size_t count;
};

static void count_names(struct fs_fixture *fixture, uint64_t directory, struct census *census)
{
    struct list_names list = names_in(fixture, directory);

    for (size_t i = 0; i < list.count; i++) {
        struct fs_entry entry;

        assert_int_equal(fs_fixture_find(fixture, directory, list.names[i], &entry), 0);
        if (S_ISDIR(entry.attribute.mode)) {
            count_names(fixture, entry.attribute.node, census);
            continue;
        }
        assert_true(census->count < 20000);
        census->nodes[census->count++] = entry.attribute.node;
    }
}

static void check_link_counts(struct fs_fixture *fixture, uint64_t directory,
                              const struct census *census)
{
    struct list_names list = names_in(fixture, directory);

    for (size_t i = 0; i < list.count; i++) {
        struct fs_entry entry;
        uint64_t names = 0;

        assert_int_equal(fs_fixture_find(fixture, directory, list.names[i], &entry), 0);
        if (S_ISDIR(entry.attribute.mode)) {
            check_link_counts(fixture, entry.attribute.node, census);
            continue;
        }
        for (size_t j = 0; j < census->count; j++)
            names += census->nodes[j] == entry.attribute.node;
        assert_int_equal(entry.attribute.nlink, names);
    }
}

/* A file's link count in .snapshots is the number of its names there, however history went. */
static void check_identity(struct fs_fixture *fixture, const struct past *pasts, size_t count)
{
    struct census *census = calloc(1, sizeof *census);

    for (size_t i = 0; i < count; i++)
        count_names(fixture, snapshot_root(fixture, pasts[i].name), census);
    for (size_t i = 0; i < count; i++)
        check_link_counts(fixture, snapshot_root(fixture, pasts[i].name), census);
    free(census);
}

static void refresh_directories(struct fs_play *play, uint64_t directory)
{
    struct list_names list = names_in(play->fixture, directory);

    for (size_t i = 0; i < list.count; i++) {
        struct fs_entry entry;

        assert_int_equal(fs_fixture_find(play->fixture, directory, list.names[i], &entry), 0);
        if (!S_ISDIR(entry.attribute.mode) || play->count == FS_PLAY_DIRECTORIES_MAX)
            continue;
        play->directories[play->count++] = fs_fixture_hold(play->fixture, directory, list.names[i]);
        refresh_directories(play, entry.attribute.node);
    }
}

static void go_back_at_random(struct fs_play *play, struct past *pasts, size_t *count)
{
    struct fs_fixture *fixture = play->fixture;
    struct told *told = calloc(1, sizeof *told);
    const struct fs_notify notify = {.entry = tell_entry, .inode = tell_inode, .context = told};
    const struct past *target = &pasts[seed_below(&play->random, *count)];
    struct cached cached[FS_PLAY_DIRECTORIES_MAX];
    struct past *before = &pasts[*count];
    size_t directories = play->count;

    for (size_t i = 0; i < directories; i++)
        cached[i] = cache_directory(fixture, play->directories[i]);
    before->text = text_of(fixture, FS_ROOT);
    assert_int_equal(fs_rollback(fixture->fs, target->name, &notify, before->name), 0);
    assert_text(fixture, FS_ROOT, &target->text);
    fs_fixture_check(fixture);
    for (size_t i = 0; i < directories; i++)
        check_cached(fixture, &cached[i], told);
    (*count)++;
    play->count = 1;
    refresh_directories(play, FS_ROOT);
    free(told);
}

static void random_histories_go_back_and_forth(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_play play = {.fixture = fixture, .random = seed_start("fs_rollback"), .count = 1};
    struct past *pasts = calloc(PASTS_MAX + 1, sizeof *pasts);
    size_t count = 0;

    play.directories[0] = FS_ROOT;
    for (int round = 0; round < 16; round++) {
        for (uint64_t i = seed_below(&play.random, 40); i > 0; i--)
            fs_play_once(&play);
        snprintf(pasts[count].name, sizeof pasts[count].name, "s%d", round);
        take_snapshot(fixture, pasts[count].name);
        pasts[count].text = text_of(fixture, FS_ROOT);
        count++;
        for (uint64_t i = seed_below(&play.random, 20); i > 0; i--)
            fs_play_once(&play);
        if (seed_below(&play.random, 2) == 0)
            go_back_at_random(&play, pasts, &count);
        if (seed_below(&play.random, 6) == 0) {
            fs_fixture_reopen(fixture);
            play.count = 1;
            refresh_directories(&play, FS_ROOT);
        }
        if (count > 6 && seed_below(&play.random, 3) == 0) {
            size_t gone = seed_below(&play.random, count);

            assert_int_equal(fs_snapshot_delete(fixture->fs, pasts[gone].name), 0);
            buffer_free(&pasts[gone].text);
            pasts[gone] = pasts[--count];
        }
        check_identity(fixture, pasts, count);
        for (size_t i = 0; i < count; i++)
            assert_text(fixture, snapshot_root(fixture, pasts[i].name), &pasts[i].text);
    }
    for (size_t i = 0; i < count; i++)
        buffer_free(&pasts[i].text);
    free(pasts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(the_tree_goes_back_and_the_one_before_is_kept),
        FS_FIXTURE_TEST(inode_numbers_are_not_given_twice),
        FS_FIXTURE_TEST(what_the_kernel_holds_of_gone_files_is_stale),
        FS_FIXTURE_TEST(files_that_were_open_without_a_name_go_when_nobody_holds_them),
        FS_FIXTURE_TEST(random_histories_go_back_and_forth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
