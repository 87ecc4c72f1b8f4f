/*
 * The load of the demo guest: it writes records that let a checker on the host tell whether a set
 * of disk images is ONE moment, and it keeps state in memory that only a memory restore brings back.
 * One static binary, no library beyond libc. guest/init starts it; see usage() for the modes.
 *
 * Record format (512 bytes, every integer little endian)
 *       offset  size  field
 *            0     8  magic "SPREC001"
 *            8     8  number n, from 1
 *           16     8  first: the number this disk began with (1, but for a disk that was added later)
 *           24     4  index of the disk, from 0
 *           28     4  CRC-32 (IEEE) of the whole record, taken with this field zero
 *           32   480  fill: byte k is (7 n + 13 index + k) mod 256
 *   A record's content depends on (n, first, index) alone: writing one again changes nothing.
 * Place
 *   Record n lies at byte ((n - 1) mod 16384) * 512: on disk 0 in the file /records of its ext4 file
 *   system, on every further disk in the disk itself. So each holds the newest 16384 records (8 MiB).
 *   A place that was never written is all zero, or beyond the end of the file.
 * Order
 *   Record n goes to disk 0, then disk 1, ... Each write is O_DIRECT|O_DSYNC, so it is durable before
 *   the next one starts. So at every moment: within a disk the numbers have no hole from `first` (or
 *   from the oldest the ring still holds) to the last, a later disk is never ahead of an earlier one,
 *   and disk 0 is at most 1 ahead of the last disk.
 * Restart
 *   The writer goes on after the smallest last number of all disks that hold records. A blank disk
 *   among others that are not joins there: its `first` is the next number.
 *
 * Lines on the console (standard output)
 *   RECORDS go on after N on D disks   once per start of the writer
 *   REC N MS GAP                       every EVERY records: N is durable on all disks; MS is the guest's
 *                                      monotonic clock; GAP the longest time, in ms, between two records
 *                                      since the previous REC line. The guest's clock stands while its
 *                                      vCPUs are stopped: a vCPU pause is seen from outside only
 *   MEMORY BOOT COUNT N                with every REC line: BOOT is random per boot, COUNT the records
 *                                      written since then; both live in memory only
 *   STALL MS at N                      a gap before record N that was longer than the threshold
 *   RECORDS stopped after N            the writer was told to end (SIGTERM) and did so between records
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RECORD = 512, SLOTS = 16384, MAX_DISKS = 32, MIB = 1 << 20, PAGE_WORDS = 512 };
static const char MAGIC[8] = {'S', 'P', 'R', 'E', 'C', '0', '0', '1'};

struct record {
    char magic[8];
    uint64_t number, first;
    uint32_t disk, crc;
    uint8_t fill[480];
} __attribute__((packed));
_Static_assert(sizeof(struct record) == RECORD, "a record is one sector");

struct disk {
    int fd;
    uint64_t first, last; /* 0: no record yet */
};

static void die(const char *what)
{
    printf("FAILED %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint32_t crc32(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint32_t crc = ~0u;
    while (n--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xEDB88320u & -(crc & 1));
    }
    return ~crc;
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static volatile sig_atomic_t ending;

static void end(int signal_number)
{
    (void)signal_number;
    ending = 1;
}

static void *aligned(size_t n)
{
    void *p = NULL;
    if (posix_memalign(&p, 4096, n))
        die("memory");
    memset(p, 0, n);
    return p;
}

static void make_record(struct record *r, uint64_t number, uint64_t first, uint32_t disk)
{
    memcpy(r->magic, MAGIC, sizeof MAGIC);
    r->number = number;
    r->first = first;
    r->disk = disk;
    r->crc = 0;
    for (unsigned k = 0; k < sizeof r->fill; k++)
        r->fill[k] = (uint8_t)(7 * number + 13 * disk + k);
    r->crc = crc32(r, RECORD);
}

/* The newest record of a disk. Damage is the host's checker's business, but another disk's records are not ours. */
static void find_last(struct disk *d, int index, struct record *ring)
{
    memset(ring, 0, SLOTS * RECORD);
    for (size_t done = 0; done < SLOTS * RECORD;) {
        ssize_t n = pread(d->fd, (char *)ring + done, SLOTS * RECORD - done, done);
        if (n < 0)
            die("read of the records");
        if (n == 0)
            break; /* a young file */
        done += n;
    }
    for (int s = 0; s < SLOTS; s++) {
        if (memcmp(ring[s].magic, MAGIC, sizeof MAGIC) || ring[s].number <= d->last)
            continue;
        if (ring[s].disk != (uint32_t)index) {
            printf("FAILED disk %d holds the records of disk %u\n", index, ring[s].disk);
            exit(1);
        }
        d->last = ring[s].number;
        d->first = ring[s].first;
    }
}

static uint64_t open_all(struct disk *disk, int disks, char **path)
{
    uint64_t least = UINT64_MAX, most = 0;
    struct record *ring = aligned(SLOTS * RECORD);
    for (int i = 0; i < disks; i++) {
        disk[i] = (struct disk){.fd = open(path[i], O_RDWR | O_DIRECT | O_DSYNC | (i ? 0 : O_CREAT), 0644)};
        if (disk[i].fd < 0)
            die(path[i]);
        find_last(&disk[i], i, ring);
        if (disk[i].last && disk[i].last < least)
            least = disk[i].last;
        if (disk[i].last > most)
            most = disk[i].last;
    }
    free(ring);
    if (!most)
        least = 0;
    for (int i = 0; i < disks; i++)
        if (!disk[i].last)
            disk[i].first = least + 1;
    if (most > least + 1)
        printf("RECORDS of the disks are from different moments: %llu to %llu\n", (unsigned long long)least,
               (unsigned long long)most);
    return least;
}

static void records(useconds_t pause, unsigned every, double threshold, int disks, char **path)
{
    struct disk disk[MAX_DISKS];
    uint64_t boot = 0, count = 0, number = open_all(disk, disks, path);
    struct record *r = aligned(4096);
    if (getrandom(&boot, sizeof boot, 0) != sizeof boot)
        die("random");
    printf("RECORDS go on after %llu on %d disks\n", (unsigned long long)number, disks);
    double longest = 0, previous = now_ms();
    while (!ending) {
        number++;
        for (int i = 0; i < disks; i++) {
            make_record(r, number, disk[i].first, i);
            if (pwrite(disk[i].fd, r, RECORD, (off_t)((number - 1) % SLOTS) * RECORD) != RECORD)
                die("write of a record");
        }
        count++;
        double now = now_ms(), gap = now - previous;
        previous = now;
        longest = gap > longest ? gap : longest;
        if (gap > threshold)
            printf("STALL %.0f at %llu\n", gap, (unsigned long long)number);
        if (number % every == 0) {
            printf("REC %llu %.0f %.1f\nMEMORY %016llx %llu %llu\n", (unsigned long long)number, now, longest,
                   (unsigned long long)boot, (unsigned long long)count, (unsigned long long)number);
            longest = 0;
        }
        usleep(pause);
    }
    printf("RECORDS stopped after %llu\n", (unsigned long long)number);
}

/* Word 0 of page p holds a value v that changes, every other word k holds v + p * k. */
static void memory(uint64_t mib, uint64_t dirty)
{
    uint64_t pages = mib * 256, at = 0;
    uint64_t(*page)[PAGE_WORDS] = mmap(0, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!pages || page == MAP_FAILED)
        die("memory load");
    for (uint64_t p = 0; p < pages; p++)
        for (uint64_t k = 0; k < PAGE_WORDS; k++)
            page[p][k] = p * k;
    printf("LOAD ready %llu MiB\n", (unsigned long long)mib);
    for (uint64_t pass = 1;; pass++) {
        for (int tenth = 0; tenth < 10; tenth++, usleep(100000))
            for (uint64_t i = 0; i < dirty; i++, at = (at + 1) % pages)
                for (uint64_t k = 0; k < PAGE_WORDS; k++)
                    page[at][k] = pass + at * k;
        for (uint64_t p = 0; p < pages; p++)
            for (uint64_t k = 0; k < PAGE_WORDS; k++)
                if (page[p][k] != page[p][0] + p * k) {
                    printf("LOAD CORRUPT page %llu\n", (unsigned long long)p);
                    exit(1);
                }
        printf("LOAD ok pass %llu\n", (unsigned long long)pass);
    }
}

static uint64_t number_of(const char *text)
{
    char *rest;
    errno = 0;
    uint64_t n = strtoull(text, &rest, 10);
    if (errno || *rest || rest == text) {
        printf("FAILED not a number: %s\n", text);
        exit(2);
    }
    return n;
}

static int usage(void)
{
    puts("record_writer records PAUSE_US EVERY STALL_MS FILE [DISK...]  numbered records, see the source's head\n"
         "record_writer memory MIB PAGES_PER_100MS                      keeps memory changing and checks it");
    return 2;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = end, .sa_flags = SA_RESTART}, NULL);
    if (argc > 5 && argc - 5 <= MAX_DISKS && !strcmp(argv[1], "records") && number_of(argv[3]))
        records(number_of(argv[2]), number_of(argv[3]), number_of(argv[4]), argc - 5, argv + 5);
    else if (argc == 4 && !strcmp(argv[1], "memory"))
        memory(number_of(argv[2]), number_of(argv[3]));
    else
        return usage();
    return 0;
}
