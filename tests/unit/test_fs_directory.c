/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_directory.c - reading directories: order, cookies, what changes meanwhile, plus
 */
#include "tests/lib/fs_fixture.h"
#include "tests/lib/seed.h"

#define ENTRIES_MAX 4096

struct listing {
    struct {
        char name[FS_NAME_SIZE_MAX + 1];
        uint64_t node, cookie;
        uint32_t type;
        bool plus;
        uint32_t nlink;
    } entries[ENTRIES_MAX];
    size_t count;
    size_t room; /* entries taken in one call */
};

static int take(void *context, const struct fs_directory_entry *entry)
{
    struct listing *listing = context;

    if (listing->room == 0)
        return 1;
    listing->room--;
    assert_true(listing->count < ENTRIES_MAX);
    assert_int_equal(strlen(entry->name), entry->name_size);
    strcpy(listing->entries[listing->count].name, entry->name);
    listing->entries[listing->count].node = entry->number;
    listing->entries[listing->count].cookie = entry->cookie;
    listing->entries[listing->count].type = entry->type;
    listing->entries[listing->count].plus = entry->entry != NULL;
    listing->entries[listing->count].nlink =
        entry->entry != NULL ? entry->entry->attribute.nlink : 0;
    listing->count++;
    return 0;
}

/* Read on, `room` entries at most; the number taken. */
static size_t read_some(struct fs_directory *directory, struct listing *listing, size_t room,
                        bool plus)
{
    size_t before = listing->count;
    uint64_t cookie = before > 0 ? listing->entries[before - 1].cookie : 0;

    listing->room = room;
    assert_int_equal(fs_readdir(directory, cookie, plus, take, listing), 0);
    return listing->count - before;
}

static struct listing *read_all(struct fs_fixture *fixture, uint64_t node, size_t room, bool plus)
{
    struct listing *listing = calloc(1, sizeof *listing);
    struct fs_directory *directory;

    assert_int_equal(fs_directory_open(fixture->fs, node, &directory), 0);
    while (read_some(directory, listing, room, plus) > 0)
        continue;
    fs_directory_close(directory);
    return listing;
}

static size_t times_shown(const struct listing *listing, const char *name)
{
    size_t times = 0;

    for (size_t i = 0; i < listing->count; i++)
        times += strcmp(listing->entries[i].name, name) == 0;
    return times;
}

static uint64_t nodes_held(struct fs_fixture *fixture)
{
    struct fs_statistics statistics;

    fs_get_statistics(fixture->fs, &statistics);
    return statistics.nodes_held;
}

static void an_empty_directory_has_itself_and_its_parent(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t outer = fs_fixture_directory(fixture, FS_ROOT, "outer");
    uint64_t inner = fs_fixture_directory(fixture, outer, "inner");
    struct listing *listing = read_all(fixture, inner, 10, false);

    assert_int_equal(listing->count, 2);
    assert_string_equal(listing->entries[0].name, ".");
    assert_int_equal(listing->entries[0].node, inner);
    assert_int_equal(listing->entries[0].cookie, 1);
    assert_string_equal(listing->entries[1].name, "..");
    assert_int_equal(listing->entries[1].node, outer);
    assert_int_equal(listing->entries[1].cookie, 2);
    assert_int_equal(listing->entries[1].type, S_IFDIR);
    free(listing);
}

static void entries_come_in_order_of_creation_whatever_the_room(void **state)
{
    struct fs_fixture *fixture = *state;
    static const size_t rooms[] = {1, 2, 7, 1000};
    uint64_t nodes[50];

    for (int i = 0; i < 50; i++) {
        char name[8];

        snprintf(name, sizeof name, "n%d", (i * 37) % 50);
        nodes[i] =
            fs_fixture_make(fixture, FS_ROOT, name, i % 5 == 0 ? S_IFDIR | 0755 : S_IFREG | 0644)
                .node;
    }
    for (size_t r = 0; r < sizeof rooms / sizeof rooms[0]; r++) {
        struct listing *listing = read_all(fixture, FS_ROOT, rooms[r], r % 2 == 0);

        assert_int_equal(listing->count, 52);
        for (size_t i = 0; i < 50; i++) {
            char name[8];

            snprintf(name, sizeof name, "n%zu", (i * 37) % 50);
            assert_string_equal(listing->entries[i + 2].name, name);
            assert_int_equal(listing->entries[i + 2].node, nodes[i]);
            assert_int_equal(listing->entries[i + 2].cookie, 3 + i);
            assert_int_equal(listing->entries[i + 2].type, i % 5 == 0 ? S_IFDIR : S_IFREG);
        }
        free(listing);
    }
}

static void a_file_cannot_be_opened_as_a_directory(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_directory *directory;

    assert_int_equal(fs_directory_open(fixture->fs, file, &directory), -ENOTDIR);
    assert_int_equal(fs_directory_open(fixture->fs, 4711, &directory), -ESTALE);
    fs_directory_close(NULL);
}

static void with_attributes_each_entry_taken_counts_one_lookup(void **state)
{
    struct fs_fixture *fixture = *state;
    struct listing *listing = calloc(1, sizeof *listing);
    struct fs_directory *directory;
    uint64_t before;

    for (int i = 0; i < 10; i++) {
        char name[8];

        snprintf(name, sizeof name, "%d", i);
        fs_forget(fixture->fs, fs_fixture_file(fixture, FS_ROOT, name), 1);
    }
    before = nodes_held(fixture);
    assert_int_equal(fs_directory_open(fixture->fs, FS_ROOT, &directory), 0);
    /* Two of five are "." and "..", which are not counted; the sixth is offered but not taken. */
    assert_int_equal(read_some(directory, listing, 5, true), 5);
    assert_false(listing->entries[1].plus);
    assert_true(listing->entries[2].plus);
    assert_int_equal(listing->entries[2].nlink, 1);
    assert_int_equal(nodes_held(fixture), before + 3);
    assert_int_equal(read_some(directory, listing, 100, true), 7);
    assert_int_equal(nodes_held(fixture), before + 10);
    for (size_t i = 2; i < listing->count; i++)
        fs_forget(fixture->fs, listing->entries[i].node, 1);
    assert_int_equal(nodes_held(fixture), before);
    fs_directory_close(directory);
    free(listing);
}

static void what_is_made_while_reading_comes_at_the_end(void **state)
{
    struct fs_fixture *fixture = *state;
    struct listing *listing = calloc(1, sizeof *listing);
    struct fs_directory *directory;

    fs_fixture_file(fixture, FS_ROOT, "a");
    fs_fixture_file(fixture, FS_ROOT, "b");
    assert_int_equal(fs_directory_open(fixture->fs, FS_ROOT, &directory), 0);
    read_some(directory, listing, 3, false);
    fs_fixture_file(fixture, FS_ROOT, "c");
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "a", NULL), 0);
    read_some(directory, listing, 100, false);
    assert_int_equal(listing->count, 5);
    assert_string_equal(listing->entries[4].name, "c");
    fs_directory_close(directory);
    free(listing);
}

static void a_loop_that_renames_what_it_reads_ends(void **state)
{
    struct fs_fixture *fixture = *state;
    struct listing *listing = calloc(1, sizeof *listing);
    struct fs_directory *directory;

    for (int i = 0; i < 20; i++) {
        char name[8];

        snprintf(name, sizeof name, "%d", i);
        fs_fixture_file(fixture, FS_ROOT, name);
    }
    assert_int_equal(fs_directory_open(fixture->fs, FS_ROOT, &directory), 0);
    read_some(directory, listing, 2, false);
    while (read_some(directory, listing, 1, false) > 0) {
        char name[FS_NAME_SIZE_MAX + 1];

        snprintf(name, sizeof name, "%.200s.bak", listing->entries[listing->count - 1].name);
        assert_int_equal(fs_rename(fixture->fs, FS_ROOT, listing->entries[listing->count - 1].name,
                                   FS_ROOT, name, 0, NULL),
                         0);
        assert_true(listing->count <= 22);
    }
    assert_int_equal(listing->count, 22);
    fs_directory_close(directory);
    free(listing);
}

static void a_replaced_name_is_shown_once(void **state)
{
    struct fs_fixture *fixture = *state;
    struct listing *listing = calloc(1, sizeof *listing);
    uint64_t directory_node = fs_fixture_directory(fixture, FS_ROOT, "d");
    struct fs_directory *directory;

    fs_fixture_file(fixture, directory_node, "target");
    fs_fixture_file(fixture, directory_node, "other");
    fs_fixture_file(fixture, directory_node, "new");
    fs_fixture_file(fixture, FS_ROOT, "outside");
    assert_int_equal(fs_directory_open(fixture->fs, directory_node, &directory), 0);
    read_some(directory, listing, 3, false); /* up to "target" */
    assert_int_equal(
        fs_rename(fixture->fs, directory_node, "new", directory_node, "target", 0, NULL), 0);
    assert_int_equal(fs_rename(fixture->fs, FS_ROOT, "outside", directory_node, "target", 0, NULL),
                     0);
    read_some(directory, listing, 100, false);
    assert_int_equal(times_shown(listing, "target"), 1);
    assert_int_equal(times_shown(listing, "other"), 1);
    assert_int_equal(times_shown(listing, "new"), 0);
    fs_directory_close(directory);
    free(listing);
}

static void cookies_are_not_reused(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t last = 0;

    for (int i = 0; i < 10; i++) {
        struct listing *listing;

        fs_fixture_file(fixture, FS_ROOT, "same");
        listing = read_all(fixture, FS_ROOT, 100, false);
        assert_int_equal(listing->count, 3);
        assert_true(listing->entries[2].cookie > last);
        last = listing->entries[2].cookie;
        free(listing);
        assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "same", NULL), 0);
        if (i == 5)
            fs_fixture_reopen(fixture);
    }
}

/* Names "s<n>" stay; names "t<n>" come, go and move while one reader reads on, entry by entry. */
static void what_stays_is_shown_exactly_once_whatever_comes_and_goes(void **state)
{
    struct fs_fixture *fixture = *state;
    struct listing *listing = calloc(1, sizeof *listing);
    uint64_t seed = seed_start(__func__);
    struct fs_directory *directory;

    for (int i = 0; i < 200; i++) {
        char name[8];

        snprintf(name, sizeof name, "%c%d", i % 2 == 0 ? 's' : 't', i / 2);
        fs_forget(fixture->fs, fs_fixture_file(fixture, FS_ROOT, name), 1);
    }
    assert_int_equal(fs_directory_open(fixture->fs, FS_ROOT, &directory), 0);
    for (unsigned step = 0; step < 1000; step++) {
        char from[8], to[8];
        struct fs_entry entry;

        snprintf(from, sizeof from, "t%u", (unsigned)seed_below(&seed, 100));
        snprintf(to, sizeof to, "t%u", (unsigned)seed_below(&seed, 100));
        switch (seed_below(&seed, 4)) {
        case 0:
            if (fs_mknod(fixture->fs, FS_ROOT, from, S_IFREG, 0, &fs_fixture_root, &entry) == 0)
                fs_forget(fixture->fs, entry.attribute.node, 1);
            break;
        case 1:
            (void)fs_unlink(fixture->fs, FS_ROOT, from, NULL);
            break;
        default:
            (void)fs_rename(fixture->fs, FS_ROOT, from, FS_ROOT, to, 0, NULL);
            break;
        }
        if (step % 4 == 0)
            read_some(directory, listing, 1, step % 8 == 0);
    }
    while (read_some(directory, listing, 100, false) > 0)
        continue;
    for (unsigned i = 0; i < 100; i++) {
        char name[8];

        snprintf(name, sizeof name, "s%u", i);
        assert_int_equal(times_shown(listing, name), 1);
    }
    fs_directory_close(directory);
    free(listing);
}

static void snapshots_are_listed_in_the_root_only_when_asked(void **state)
{
    struct fs_fixture *fixture = *state;
    struct listing *listing = read_all(fixture, FS_ROOT, 100, false);
    uint64_t node;

    assert_int_equal(times_shown(listing, ".snapshots"), 0);
    free(listing);
    fs_fixture_close(fixture);
    fixture->options.snapdir_visible = true;
    fs_fixture_open(fixture);
    fs_fixture_file(fixture, FS_ROOT, "f");
    node = fs_fixture_hold(fixture, FS_ROOT, ".snapshots");
    for (int plus = 0; plus < 2; plus++) {
        listing = read_all(fixture, FS_ROOT, 1, plus != 0);
        assert_int_equal(listing->count, 4);
        assert_string_equal(listing->entries[3].name, ".snapshots");
        assert_int_equal(listing->entries[3].node, node);
        assert_int_equal(listing->entries[3].plus, plus);
        free(listing);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(an_empty_directory_has_itself_and_its_parent),
        FS_FIXTURE_TEST(entries_come_in_order_of_creation_whatever_the_room),
        FS_FIXTURE_TEST(a_file_cannot_be_opened_as_a_directory),
        FS_FIXTURE_TEST(with_attributes_each_entry_taken_counts_one_lookup),
        FS_FIXTURE_TEST(what_is_made_while_reading_comes_at_the_end),
        FS_FIXTURE_TEST(a_loop_that_renames_what_it_reads_ends),
        FS_FIXTURE_TEST(a_replaced_name_is_shown_once),
        FS_FIXTURE_TEST(cookies_are_not_reused),
        FS_FIXTURE_TEST(what_stays_is_shown_exactly_once_whatever_comes_and_goes),
        FS_FIXTURE_TEST(snapshots_are_listed_in_the_root_only_when_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
