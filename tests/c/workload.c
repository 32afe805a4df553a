/* The program that runs under hard conditions: small, large and huge blocks with checked contents, by one thread and by
 * several, before and after something is taken away.
 *
 *   trim=1   malloc_trim behind the filter
 *   early=FILTER   seccomp filter before any constructor      late=FILTER   after the first half
 *   threads=N      worker threads (0: none may be made)       mib=N         live memory of the workload
 *   rlimit_as=N, rlimit_data=N (MiB)   set after the first half, on top of what is in use
 *   mlockall=1     lock present and future pages at the start; 2: only the present ones, after the first half
 *   first=N        steps of the first half
 *   maps=1         use up vm.max_map_count after the first half
 *   dd=1           check that no block lies in a mapping left out of core dumps */
#include "filter.h"
#include <dirent.h>

static void early(int argc, char **argv, char **env)
{
	const char *filter = t_arg(argv, "early", NULL);

	(void)argc, (void)env;
	if (filter)
		filter_install(filter);
}
__attribute__((section(".preinit_array"), used)) static void (*in_preinit)(int, char **, char **) = early;

enum { SLOTS = 2000 };
struct slot {
	char *block;
	size_t size;
	uint64_t tag;
};

struct load {
	struct slot slot[SLOTS];
	uint64_t seed;
	size_t live, most;
	long refused;
	int may_refuse;
};

static void drop(struct load *l, struct slot *s)
{
	if (s->block) {
		VERIFY(s->block, s->size, s->tag);
		free(s->block);
		l->live -= s->size;
		s->block = NULL;
	}
}

static void step(struct load *l)
{
	struct slot *s = &l->slot[t_next(&l->seed) % SLOTS];
	uint64_t kind = t_next(&l->seed) % 16;
	size_t size = t_next(&l->seed) % 500 == 0 ? KIB(100) + t_next(&l->seed) % MIB(6) : t_size(&l->seed, KIB(200));
	char *p;

	if (l->live + size > l->most) {
		drop(l, s);
		return;
	}
	errno = 0;
	if (kind == 0 && s->block) {
		if ((p = realloc(s->block, size))) {
			CHECK(t_differs(p, s->size, size < s->size ? size : s->size, s->tag) < 0);
			l->live -= s->size;
			s->block = NULL;
		}
	} else {
		drop(l, s);
		p = kind == 1 ? memalign(4096, size) : kind < 6 ? calloc(1, size) : malloc(size);
		CHECK(!p || kind < 2 || kind >= 6 || t_is_zero(p, size));
	}
	if (!p) {
		if (!l->may_refuse || errno != ENOMEM)
			FAIL("%zu bytes refused with %zu live, errno %d", size, l->live, errno);
		l->refused++;
		return;
	}
	t_fill(p, size, s->tag = t_next(&l->seed));
	s->block = p;
	s->size = size;
	l->live += size;
}

static void steps(struct load *l, long n)
{
	while (n--)
		step(l);
}

static void drop_all(struct load *l)
{
	for (int i = 0; i < SLOTS; i++)
		drop(l, &l->slot[i]);
}

static size_t mib;

static void *in_thread(void *arg)
{
	static __thread struct load mine;

	mine.seed = 71 + (uintptr_t)arg;
	mine.most = MIB(mib) / 4;
	steps(&mine, 8000);
	drop_all(&mine);
	return NULL;
}

static void run_threads(long n)
{
	pthread_t thread[16];

	for (long i = 0; i < n; i++)
		CHECK(pthread_create(&thread[i], NULL, in_thread, (void *)i) == 0);
	for (long i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
}

/* Takes mapping after mapping, no two of which merge, until the kernel refuses. */
static void use_up_maps(void)
{
	for (long i = 0; i < 2000000; i++) {
		void *p = mmap(NULL, 4096, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED) {
			CHECK(errno == ENOMEM && i > 1000);
			return;
		}
	}
	FAIL("max_map_count is too large for this test");
}

/* Address space or data in use now, from the line of /proc/self/status. */
static size_t in_use(const char *line)
{
	static char text[8192];
	int fd = open("/proc/self/status", O_RDONLY);
	char *at;

	CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
	close(fd);
	CHECK((at = strstr(text, line)) != NULL);
	return strtoul(at + strlen(line), NULL, 10) << 10;
}

/* The flags of the mapping that holds `p` must not say that core dumps leave it out. */
static void dumped(const void *p)
{
	FILE *maps = fopen("/proc/self/smaps", "r");
	char line[1024];
	int inside = 0, seen = 0;

	CHECK(maps);
	while (fgets(line, sizeof line, maps)) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, '-') < line + 17)
			inside = (uintptr_t)p >= from && (uintptr_t)p < to;
		if (inside && !strncmp(line, "VmFlags:", 8)) {
			seen = 1;
			if (strstr(line, " dd"))
				FAIL("the mapping of %p is left out of core dumps: %s", p, line);
		}
	}
	fclose(maps);
	CHECK(seen);
}

int main(int argc, char **argv)
{
	static struct load load;
	long threads = t_long(argv, "threads", 3), limit;
	const char *filter = t_arg(argv, "late", NULL);

	(void)argc;
	mib = t_long(argv, "mib", 32);
	load.seed = 12345;
	load.most = MIB(mib);
	if (t_long(argv, "mlockall", 0) == 1)
		CHECK(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
	steps(&load, t_long(argv, "first", 20000));
	if (t_long(argv, "mlockall", 0) == 2)
		CHECK(mlockall(MCL_CURRENT) == 0);
	run_threads(threads);

	if ((limit = t_long(argv, "rlimit_as", 0))) {
		struct rlimit r = { in_use("VmSize:") + MIB(limit), RLIM_INFINITY };
		CHECK(setrlimit(RLIMIT_AS, &r) == 0);
		/* The program's own mappings must still have room: at least half of what it left itself. */
		void *own = mmap(NULL, MIB(limit) / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(own != MAP_FAILED);
		munmap(own, MIB(limit) / 2);
		load.may_refuse = 1;
	}
	if ((limit = t_long(argv, "rlimit_data", 0))) {
		struct rlimit r = { in_use("VmData:") + MIB(limit), RLIM_INFINITY };
		CHECK(setrlimit(RLIMIT_DATA, &r) == 0);
		load.may_refuse = 1;
	}
	if (t_long(argv, "maps", 0)) {
		use_up_maps();
		load.may_refuse = 1;
	}
	if (filter)
		filter_install(filter);

	if (load.may_refuse) {
		/* More than there can be: refusals are the answer, and nothing that lives is harmed. */
		load.most = (size_t)-1 / 2;
		for (int i = 0; i < SLOTS; i++) {
			struct slot *s = &load.slot[i];
			size_t size = KIB(500);

			drop(&load, s);
			if ((s->block = malloc(size)) == NULL) {
				CHECK(errno == ENOMEM);
				load.refused++;
				continue;
			}
			t_fill(s->block, s->size = size, s->tag = i);
			load.live += size;
		}
		/* Without room for a mapping, what is mapped already may still grow. */
		CHECK(load.refused > 0 || t_long(argv, "maps", 0));
		drop_all(&load);
		load.refused = 0;
		load.most = MIB(mib) / 8;
		steps(&load, 20000);
		/* With an eighth of the memory that it had before, the program has to get on. */
		if (load.refused > 20)
			FAIL("%ld of 20000 requests refused within memory held before", load.refused);
	} else {
		steps(&load, 20000);
		run_threads(threads);
		char *p = malloc(MIB(20));
		CHECK(p);
		t_fill(p, MIB(20), 3);
		CHECK((p = realloc(p, MIB(50))) != NULL);
		VERIFY(p, MIB(20), 3);
		free(p);
	}
	if (t_long(argv, "trim", 0))
		CHECK(malloc_trim(0) == 1);
	if (t_long(argv, "dd", 0)) {
		static const size_t sizes[] = { 8, 500, 9000, 40000, KIB(200), MIB(1), MIB(3), MIB(64) };
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			char *p = malloc(sizes[i]);
			memset(p, 1, sizes[i]);
			dumped(p);
			dumped(p + sizes[i] - 1);
		}
	}
	drop_all(&load);
	return 0;
}
