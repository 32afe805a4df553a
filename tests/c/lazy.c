/* A process restored lazily from a checkpoint, as CRIU does it: all its anonymous memory, zonal's own metadata with it, is
 * taken away and comes back page by page, copied in by the kernel when somebody touches it (userfaultfd). What the program
 * gives back meanwhile must come back as zeros, what it moves must move (`moved=N` times at least). Exits 77 where the
 * system allows no userfaultfd. */
#include "t.h"
#include <dlfcn.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

enum { PAGE = 4096, MAX_PAGES = 1 << 15, MAX_RANGES = 256, KEPT = 300 };

/* The checkpoint: where each page was (0: given up since), and what was in it. */
struct checkpoint {
	uintptr_t at[MAX_PAGES];
	char content[MAX_PAGES][PAGE];
	char maps[1 << 16];
	unsigned char is_resident[MAX_PAGES];
};

/* Shared memory, which stays. */
static struct checkpoint *saved;
static long nr_saved, nr_copied, nr_zeroed, nr_removed, nr_moved;
static int uffd;

static long find(uintptr_t at)
{
	for (long i = 0; i < nr_saved; i++)
		if (saved->at[i] == at)
			return i;
	return -1;
}

static void serve(uintptr_t at)
{
	long i = find(at);
	int rc;

	if (i >= 0) {
		struct uffdio_copy copy = { .dst = at, .src = (uintptr_t)saved->content[i], .len = PAGE };

		rc = ioctl(uffd, UFFDIO_COPY, &copy);
		nr_copied += rc == 0;
	} else {
		struct uffdio_zeropage zero = { .range = { at, PAGE } };

		rc = ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
		nr_zeroed += rc == 0;
	}
	if (rc != 0) {
		/* Mappings change: whoever waits asks again. Or somebody else was served with this page. */
		struct uffdio_range range = { at, PAGE };

		CHECK(errno == EAGAIN || errno == EEXIST || errno == ENOENT);
		ioctl(uffd, UFFDIO_WAKE, &range);
	}
}

static void *restorer(void *unused)
{
	struct uffd_msg message;

	while (read(uffd, &message, sizeof message) == sizeof message) {
		switch (message.event) {
		case UFFD_EVENT_PAGEFAULT:
			serve(message.arg.pagefault.address & ~(uintptr_t)(PAGE - 1));
			break;
		case UFFD_EVENT_REMOVE:
		case UFFD_EVENT_UNMAP:
			nr_removed++;
			for (long i = 0; i < nr_saved; i++)
				if (saved->at[i] - message.arg.remove.start < message.arg.remove.end - message.arg.remove.start)
					saved->at[i] = 0;
			break;
		case UFFD_EVENT_REMAP:
			nr_moved++;
			for (long i = 0; i < nr_saved; i++)
				if (saved->at[i] - message.arg.remap.from < message.arg.remap.len)
					saved->at[i] += message.arg.remap.to - message.arg.remap.from;
		}
	}
	FAIL("userfaultfd cannot be read (errno %d)", errno);
	return unused;
}

/* Saves a range and takes its memory away. Touches nothing else between the two. */
static void take(uintptr_t start, uintptr_t end)
{
	struct uffdio_register whole = { .range = { start, end - start }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	size_t nr = (end - start) / PAGE;

	CHECK(nr <= MAX_PAGES && mincore((void *)start, end - start, saved->is_resident) == 0);
	for (size_t i = 0; i < nr; i++)
		if (saved->is_resident[i] & 1) {
			CHECK(nr_saved < MAX_PAGES);
			memcpy(saved->content[nr_saved], (char *)start + i * PAGE, PAGE);
			saved->at[nr_saved++] = start + i * PAGE;
		}
	if (madvise((void *)start, end - start, MADV_DONTNEED) != 0 || ioctl(uffd, UFFDIO_REGISTER, &whole) != 0)
		_exit(2);
}

static void take_all(pthread_t restorer_thread)
{
	int fd = open("/proc/self/maps", O_RDONLY);
	uintptr_t start, end, last_end = 0, ranges[MAX_RANGES][2];
	char access[5], *text = saved->maps, *line;
	int nr = 0, at, last_has_name = 0;
	ssize_t n;

	CHECK(fd >= 0);
	while ((n = read(fd, text, saved->maps + sizeof saved->maps - 1 - text)) > 0)
		text += n;
	CHECK(n == 0 && close(fd) == 0);
	for (line = saved->maps; *line; line = strchr(line, '\n') + 1) {
		CHECK(sscanf(line, "%lx-%lx %4s %*s %*s %*s%n", &start, &end, access, &at) == 3);
		int has_name = line[at + strspn(line + at, " ")] != '\n';
		int is_bss = last_has_name && start == last_end;

		/* Not what both threads and the kernel need to get at the memory: their stacks and descriptors. */
		if (!strcmp(access, "rw-p") && !has_name && !is_bss && end - start <= (size_t)MAX_PAGES * PAGE &&
			(uintptr_t)restorer_thread - start >= end - start && (uintptr_t)pthread_self() - start >= end - start) {
			CHECK(nr < MAX_RANGES);
			ranges[nr][0] = start;
			ranges[nr++][1] = end;
		}
		last_has_name = has_name;
		last_end = end;
	}
	for (int i = 0; i < nr; i++)
		take(ranges[i][0], ranges[i][1]);
}

static void *kept[KEPT];
static size_t kept_size[KEPT];

static void fill(int i, size_t size)
{
	kept_size[i] = size;
	CHECK((kept[i] = malloc(size)) != NULL);
	t_fill(kept[i], size, i);
}

static void *churn(void *seed_of_thread)
{
	uint64_t seed = 1 + (uintptr_t)seed_of_thread;

	for (int i = 0; i < 2000; i++) {
		size_t size = t_size(&seed, KIB(200));
		char *p = calloc(1, size), *q;

		CHECK(p && t_is_zero(p, size));
		t_fill(p, size, i);
		CHECK((q = realloc(p, 2 * size)) != NULL);
		VERIFY(q, size & ~(size_t)7, (uint64_t)i);
		free(q);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct uffdio_api api = { .api = UFFD_API,
		.features = UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP };
	uint64_t seed = 42;
	pthread_t thread, worker[2];

	(void)argc;
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0 || sysconf(_SC_PAGESIZE) != PAGE)
		return 77;
	saved = mmap(NULL, sizeof *saved, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(saved != MAP_FAILED && madvise(saved, PAGE, MADV_NORMAL) == 0);
	for (int i = 0; i < KEPT; i++)
		fill(i, i < 3 ? MIB(6) + i : i < 20 ? KIB(100) + i : t_size(&seed, 5000));
	churn(NULL);
	CHECK(pthread_create(&thread, NULL, restorer, NULL) == 0);
	take_all(thread);

	/* Moved, grown, given up and used again before all of it is back. */
	for (int i = 0; i < KEPT; i += 5) {
		size_t size = kept_size[i];

		CHECK((kept[i] = realloc(kept[i], size + size / 2)) != NULL);
		VERIFY(kept[i], size & ~(size_t)7, (uint64_t)i);
		free(kept[i]);
		fill(i, size / 2 + 1);
	}
	malloc_trim(0);
	for (long i = 0; i < 2; i++)
		CHECK(pthread_create(&worker[i], NULL, churn, (void *)i) == 0);
	churn((void *)7);
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(worker[i], NULL) == 0);
	for (int i = 0; i < KEPT; i++) {
		VERIFY(kept[i], kept_size[i], (uint64_t)i);
		free(kept[i]);
	}
	malloc_trim(0);
	int (*validate)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "zonal_validate");
	CHECK(!validate || validate() == 0);
	printf("%ld pages saved, %ld copied, %ld as zeros, %ld ranges removed, %ld moved\n", nr_saved, nr_copied, nr_zeroed,
		   nr_removed, nr_moved);
	CHECK(!validate || (nr_copied > 500 && nr_zeroed > 0 && nr_removed > 0 && nr_moved >= t_long(argv, "moved", 1)));
	return 0;
}
