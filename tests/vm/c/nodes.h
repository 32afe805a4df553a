/* What the programs of the laboratory share: where pages are, which node is whose, pinning.
 *
 * Nothing here allocates from the heap under test: arrays come from mmap. */
#ifndef ZONAL_NODES_H
#define ZONAL_NODES_H
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <sys/syscall.h>
#include "../../c/t.h"

#define MAX_NODES 64
#define PAGE 4096ul

/* Pages by node; those that are nowhere are counted apart. */
struct spread {
	size_t on[MAX_NODES], nowhere, all;
};

/* A block and its size. */
struct block {
	char *at;
	size_t size;
};

__attribute__((unused)) static void *array(size_t n, size_t size)
{
	void *at = mmap(NULL, n * size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(at != MAP_FAILED);
	return at;
}

/* "0-2,5" in a file below /sys/devices/system/node, as bits. */
static uint64_t mask(const char *name)
{
	char path[96], text[256] = "", *at = text;
	uint64_t bits = 0;
	int fd;

	snprintf(path, sizeof path, "/sys/devices/system/node/%s", name);
	fd = open(path, O_RDONLY);
	CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
	close(fd);
	while (*at >= '0' && *at <= '9') {
		unsigned long first = strtoul(at, &at, 10), last = first;

		if (*at == '-')
			last = strtoul(at + 1, &at, 10);
		for (; first <= last; first++)
			bits |= 1ull << first;
		if (*at == ',')
			at++;
	}
	return bits;
}

/* The nodes with memory that are nearest to `node`: itself if it has some. */
__attribute__((unused)) static uint64_t nearest(int node)
{
	uint64_t online = mask("online"), memory = mask("has_memory"), best = 0;
	unsigned long least = ~0ul;
	char path[96], text[512] = "", *at = text;
	int fd, other;

	snprintf(path, sizeof path, "/sys/devices/system/node/node%d/distance", node);
	fd = open(path, O_RDONLY);
	CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
	close(fd);
	for (other = 0; other < MAX_NODES; other++) {
		unsigned long distance;

		if (!(online >> other & 1))
			continue;
		distance = strtoul(at, &at, 10);
		if (!(memory >> other & 1) || distance > least)
			continue;
		best = distance < least ? 1ull << other : best | 1ull << other;
		least = distance;
	}
	return best;
}

/* A figure of zonal's about a node. */
__attribute__((unused)) static unsigned long figure(int node, const char *name)
{
	int (*print)(int, int) = (int (*)(int, int))dlsym(RTLD_DEFAULT, "zonal_stats_print");
	size_t room = MIB(1);
	char *text = array(1, room), key[64], *at;
	unsigned long value;
	int fd = memfd_create("figures", 0);

	CHECK(print && fd >= 0 && print(fd, 1) == 0);
	CHECK(pread(fd, text, room - 1, 0) > 0);
	snprintf(key, sizeof key, "{\"node\":%d,", node);
	at = strstr(text, key);
	snprintf(key, sizeof key, "\"%s\":", name);
	CHECK(at && (at = strstr(at, key)));
	value = strtoul(at + strlen(key), NULL, 10);
	munmap(text, room);
	close(fd);
	return value;
}

/* Pins the thread to a processor and returns that processor's node. */
__attribute__((unused)) static int pin(int cpu)
{
	unsigned on, node;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
	CHECK(syscall(SYS_getcpu, &on, &node, NULL) == 0 && (int)on == cpu);
	return node;
}

/* The first processor of a node. */
__attribute__((unused)) static int cpu_of(int node)
{
	int cpu, nr = sysconf(_SC_NPROCESSORS_ONLN);
	char path[96];

	for (cpu = 0; cpu < nr; cpu++) {
		snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpu%d", node, cpu);
		if (access(path, F_OK) == 0)
			return cpu;
	}
	FAIL("node %d has no processor", node);
}

/* Sorts in place: the C library's qsort allocates. */
static void sort(uintptr_t *v, size_t n)
{
	size_t root, child, end, start = n / 2;

	for (end = n; end > 1;) {
		uintptr_t value;

		if (start > 0)
			value = v[--start];
		else {
			value = v[--end];
			v[end] = v[0];
		}
		for (root = start; (child = 2 * root + 1) < end; root = child) {
			if (child + 1 < end && v[child] < v[child + 1])
				child++;
			if (value >= v[child])
				break;
			v[root] = v[child];
		}
		v[root] = value;
	}
}

/* Where the pages under the blocks are, each counted once. */
__attribute__((unused)) static struct spread where(const struct block *blocks, size_t nr)
{
	struct spread spread = {0};
	size_t i, n = 0, room = 0;
	uintptr_t *pages, page;
	void *at[512];
	int status[512];

	for (i = 0; i < nr; i++)
		room += blocks[i].size / PAGE + 2;
	pages = array(room, sizeof *pages);
	for (i = 0; i < nr; i++) {
		uintptr_t start = (uintptr_t)blocks[i].at;

		for (page = start & -PAGE; page < start + blocks[i].size; page += PAGE)
			pages[n++] = page;
	}
	sort(pages, n);
	for (i = 0; i < n;) {
		unsigned k, tries, m = 0;

		for (; m < 512 && i < n; i++)
			if (i == 0 || pages[i] != pages[i - 1])
				at[m++] = (void *)pages[i];
		CHECK(syscall(SYS_move_pages, 0, (long)m, at, NULL, status, 0) == 0);
		for (k = 0; k < m; k++) {
			/* The kernel may be moving it: who reads it waits for that. What is lost reads as its page
			 * of zeros, which is nowhere. */
			for (tries = 0; status[k] < 0 && tries < 5; tries++) {
				(void)*(volatile char *)at[k];
				CHECK(syscall(SYS_move_pages, 0, 1l, &at[k], NULL, &status[k], 0) == 0);
			}
			spread.all++;
			if (status[k] >= 0 && status[k] < MAX_NODES)
				spread.on[status[k]]++;
			else
				spread.nowhere++;
		}
	}
	munmap(pages, room * sizeof *pages);
	return spread;
}

/* How many of the pages are on nodes of `mask`. */
__attribute__((unused)) static size_t among(const struct spread *spread, uint64_t nodes)
{
	size_t sum = 0;
	int node;

	for (node = 0; node < MAX_NODES; node++)
		if (nodes >> node & 1)
			sum += spread->on[node];
	return sum;
}

/* One line of figures: "NAME: 1200 pages: node0 300 node1 900". */
__attribute__((unused)) static void show(const char *name, const struct spread *spread)
{
	int node;

	printf("%s: %zu pages:", name, spread->all);
	for (node = 0; node < MAX_NODES; node++)
		if (spread->on[node])
			printf(" node%d %zu", node, spread->on[node]);
	if (spread->nowhere)
		printf(" nowhere %zu", spread->nowhere);
	printf("\n");
	fflush(stdout);
}

/* Allocates and fills blocks of mixed sizes until they have `bytes` together; how many. */
__attribute__((unused)) static size_t fill(struct block *blocks, size_t room, size_t bytes, uint64_t *seed)
{
	size_t nr = 0, done = 0;

	while (done < bytes) {
		size_t size = t_size(seed, MIB(1));
		char *at = malloc(size);

		CHECK(nr < room && at != NULL);
		memset(at, 0x5a, size);
		blocks[nr++] = (struct block){at, size};
		done += size;
	}
	return nr;
}

__attribute__((unused)) static void drop(struct block *blocks, size_t nr)
{
	while (nr-- > 0)
		free(blocks[nr].at);
}

/* Enough for any `fill` of so many bytes: the mean size is above 64 bytes. */
__attribute__((unused)) static struct block *blocks_for(size_t bytes)
{
	return array(bytes / 64, sizeof(struct block));
}
#endif
