/* Misuse of the heap, one kind a run: `misuse kind=NAME`; without a kind it lists them. What zonal finds ends in its report and
 * SIGABRT, or SIGSEGV where the program itself faults; `own=1` gives the program a handler of its own for that, by which
 * it ends with 4. Else the program ends with 3 ("survived") through exit(), so that what is found at the end of
 * the process counts. Kinds that must be refused by an errno or a null pointer abort by themselves when
 * they are, with a line of the same form. `mute=1` closes stderr, and the kind must leave errno alone. `size=N` is that of
 * small objects, and `busy=1` lets the C library allocate before, as programs do. */
#include "t.h"
#include <dirent.h>
#include <locale.h>
#include <signal.h>
#include <time.h>

void free_sized(void *, size_t) __attribute__((weak));
void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));
/* operator new and sized delete, by their names: no C++ compiler needed. */
void _ZdlPvm(void *, size_t) __attribute__((weak));
void *_Znwm(size_t) __attribute__((weak));

enum { LARGE = 100000, HUGE_ = 30000000 };

static size_t small = 100;
static char in_data[256] __attribute__((aligned(64)));

static char *get(size_t size)
{
	char *p = malloc(size);

	CHECK(p);
	t_fill(p, size, size);
	HIDE(p);
	return p;
}

static void give(void *p)
{
	HIDE(p);
	free(p);
}

static void *give_elsewhere(void *p)
{
	give(p);
	return NULL;
}

static void in_thread(void *(*work)(void *), void *p)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, work, p) == 0);
	pthread_join(thread, NULL);
}

/* The call was refused, as it must be. */
static void refused(void)
{
	static const char line[] = "refused\n";

	CHECK(write(2, line, sizeof line - 1) > 0);
	signal(SIGABRT, SIG_DFL);
	raise(SIGABRT);
}

static void twice(size_t size)
{
	char *p = get(size);

	give(p);
	give(p);
}

static void twice_after(size_t size, int nr)
{
	char *p = get(size), *others[200];

	for (int i = 0; i < nr; i++)
		others[i] = get(size);
	give(p);
	for (int i = 0; i < nr; i++)
		give(others[i]);
	give(p);
}

static void k_double_small(void) { twice(small); }
static void k_double_large(void) { twice(LARGE); }
static void k_double_huge(void) { twice(HUGE_); }
static void k_double_after_one(void) { twice_after(small, 1); }
static void k_double_after_many(void) { twice_after(small, 200); }
static void k_double_large_after_many(void) { twice_after(LARGE, 50); }
static void k_double_8(void) { twice_after(8, 1); }

static void k_double_elsewhere(void)
{
	char *p = get(small);

	give(p);
	in_thread(give_elsewhere, p);
}

static void k_double_from_elsewhere(void)
{
	char *p = get(small);

	in_thread(give_elsewhere, p);
	give(p);
}

static void k_double_both_elsewhere(void)
{
	char *p = get(small);

	in_thread(give_elsewhere, p);
	in_thread(give_elsewhere, p);
}

static void k_double_large_elsewhere(void)
{
	char *p = get(LARGE);

	in_thread(give_elsewhere, p);
	give(p);
}

static void *churn(void *p)
{
	for (int i = 0; i < 1000; i++)
		give(get(small));
	give(p);
	for (int i = 0; i < 1000; i++)
		give(get(small));
	return NULL;
}

static void k_double_while_others_work(void)
{
	char *p = get(small);
	pthread_t a, b;

	CHECK(pthread_create(&a, NULL, churn, p) == 0 && pthread_create(&b, NULL, churn, p) == 0);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
}

static void k_double_after_realloc(void)
{
	char *p = get(small), *q = realloc(p, 5000);

	HIDE(q);
	HIDE(p);
	CHECK(q && q != p);
	give(p);
}

static void k_double_after_realloc_0(void)
{
	char *p = get(small), *q = p;

	HIDE(q);
	CHECK(realloc(p, 0) == NULL);
	give(q);
}

static void k_double_in_fork(void)
{
	char *p = get(small);
	int status;
	pid_t child = fork();

	if (child == 0) {
		give(p);
		give(p);
		exit(3);
	}
	CHECK(waitpid(child, &status, 0) == child);
	if (WIFSIGNALED(status))
		raise(WTERMSIG(status));
}

static void k_double_aligned(void)
{
	char *p = aligned_alloc(4096, 4096);

	HIDE(p);
	CHECK(p);
	give(p);
	give(p);
}

static void k_double_operator(void)
{
	char *p = _Znwm(small);

	HIDE(p);
	_ZdlPvm(p, small);
	HIDE(p);
	give(p);
}

static void inside(size_t size, size_t at)
{
	give(get(size) + at);
}

static void k_interior_8(void) { inside(small, 8); }
static void k_interior_16(void) { inside(small, 16); }
static void k_interior_last(void) { inside(small, small - 1); }
static void k_interior_large(void) { inside(LARGE, 64); }
static void k_interior_large_page(void) { inside(LARGE, 8192); }
static void k_interior_huge(void) { inside(HUGE_, 4096); }
static void k_misaligned_1(void) { inside(small, 1); }
static void k_before_start(void) { give(get(small) - 16); }

static void k_interior_elsewhere(void)
{
	in_thread(give_elsewhere, get(small) + 16);
}

static void k_free_stack(void)
{
	char block[64] __attribute__((aligned(64)));

	give(block);
}

static void k_free_data(void) { give(in_data); }
static void k_free_code(void) { give((void *)(uintptr_t)&k_free_data); }
static void k_free_low(void) { give((void *)(uintptr_t)64); }
static void k_free_top(void) { give((void *)(uintptr_t)-16); }
static void k_free_non_canonical(void) { give((void *)(uintptr_t)0x8000123412340000ull); }

static void k_free_unmapped(void)
{
	char *p = mmap(NULL, KIB(64), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED && munmap(p, KIB(64)) == 0);
	give(p);
}

static void k_free_mapping(void)
{
	give(mmap(NULL, KIB(64), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static void k_free_never_handed_out(void)
{
	/* In pages of the same pageblock that nobody has. */
	give((void *)((uintptr_t)get(small) + KIB(512)));
}

static void k_realloc_freed(void)
{
	char *p = get(small), *q = p;

	give(p);
	HIDE(q);
	q = realloc(q, 5000);
	HIDE(q);
}

static void k_realloc_freed_large(void)
{
	char *p = get(LARGE), *q = p;

	give(p);
	HIDE(q);
	q = realloc(q, 3 * LARGE);
	HIDE(q);
}

static void k_realloc_interior(void)
{
	char *p = get(small) + 16;

	HIDE(p);
	p = realloc(p, 5000);
	HIDE(p);
}

static void k_realloc_foreign(void)
{
	char *p = in_data;

	HIDE(p);
	p = realloc(p, 5000);
	HIDE(p);
}

static void k_usable_size_interior(void)
{
	char *p = get(small) + 16;

	HIDE(p);
	CHECK(malloc_usable_size(p) < 1000);
}

static void k_usable_size_foreign(void)
{
	char *p = in_data;

	HIDE(p);
	CHECK(malloc_usable_size(p) < 1000);
}

static void k_free_sized_wrong(void) { free_sized(get(small), 300); }
static void k_free_sized_large_wrong(void) { free_sized(get(LARGE), small); }
static void k_delete_sized_wrong(void) { _ZdlPvm(get(small), 16); }

static void k_free_aligned_sized_wrong(void)
{
	char *p = aligned_alloc(64, 640);

	CHECK(p);
	HIDE(p);
	free_aligned_sized(p, 64, 64);
}

static void k_overflow_by_one(void)
{
	char *p = get(small);

	p[small] = 0;
	give(p);
}

static void k_overflow_by_many(void)
{
	char *before = get(small), *p = get(small);

	memset(p, 'x', small + 100);
	HIDE(p);
	give(p);
	give(before);
}

static void k_overflow_of_freed_neighbour(void)
{
	char *p = get(small), *q = get(small), *low = p < q ? p : q, *high = p < q ? q : p;

	give(high);
	memset(low + small, 'x', 300);
	HIDE(low);
	give(low);
}

static void k_overflow_large_by_one(void)
{
	char *p = get(LARGE);

	p[LARGE] = 0;
	give(p);
}

static void k_overflow_large_far(void)
{
	char *p = get(LARGE);

	memset(p, 'x', LARGE + 8192);
	give(p);
}

/* Over all that follows in the slab, and on. */
static void k_overflow_small_far(void)
{
	char *p = get(small);

	memset(p, 'x', KIB(40));
	HIDE(p);
}

static void k_underflow(void)
{
	char *p[20];

	for (int i = 0; i < 20; i++)
		p[i] = get(small);
	for (int i = 0; i < 20; i++)
		if ((uintptr_t)p[i] % 4096 >= small)
			memset(p[i] - 8, 'x', 8);
	for (int i = 0; i < 20; i++)
		give(p[i]);
}

static void k_write_after_free(void)
{
	char *p = get(small);

	give(p);
	HIDE(p);
	p[small / 2] = 'x';
}

static void k_write_after_free_elsewhere(void)
{
	char *p = get(small);

	in_thread(give_elsewhere, p);
	p[small - 1] = 'x';
}

static void k_pointer_after_free(void)
{
	char **p = (char **)get(small), *target = get(small);

	p[0] = target;
	give(p);
	HIDE(p);
	/* At level 2 what stands there is no address. */
	p[0][0] = 'x';
}

/* So often that, where one object in so many is checked, one of those is. */
static void in_the_long_run(int after_free)
{
	static char *p[4096];

	for (int round = 0; round < 2000; round++) {
		for (int i = 0; i < 4096; i++) {
			p[i] = malloc(small);
			p[i][small - after_free] = 0;
		}
		for (int i = 0; i < 4096; i++) {
			give(p[i]);
			if (after_free)
				p[i][8] = 'x';
		}
	}
}

static void k_overflow_again(void) { in_the_long_run(0); }
static void k_write_after_free_again(void) { in_the_long_run(1); }

static void k_align_not_a_power(void)
{
	void *p = NULL;

	if (posix_memalign(&p, 24, 100) == EINVAL && !aligned_alloc(24, 100) && errno == EINVAL)
		refused();
}

static void k_size_overflow(void)
{
	size_t n = SIZE_MAX / 2 + 2;

	HIDE(n);
	if (!calloc(n, 2) && errno == ENOMEM && !reallocarray(NULL, n, 2) && errno == ENOMEM)
		refused();
}

#define KIND(name) { #name, k_##name }
static const struct { const char *name; void (*run)(void); } kinds[] = {
	KIND(double_small), KIND(double_large), KIND(double_huge), KIND(double_8),
	KIND(double_after_one), KIND(double_after_many), KIND(double_large_after_many),
	KIND(double_elsewhere), KIND(double_from_elsewhere), KIND(double_both_elsewhere),
	KIND(double_large_elsewhere), KIND(double_while_others_work), KIND(double_after_realloc),
	KIND(double_after_realloc_0), KIND(double_in_fork), KIND(double_aligned), KIND(double_operator),
	KIND(interior_8), KIND(interior_16), KIND(interior_last), KIND(interior_large),
	KIND(interior_large_page), KIND(interior_huge), KIND(misaligned_1), KIND(before_start),
	KIND(interior_elsewhere), KIND(free_stack), KIND(free_data), KIND(free_code), KIND(free_low),
	KIND(free_top), KIND(free_non_canonical), KIND(free_unmapped), KIND(free_mapping),
	KIND(free_never_handed_out), KIND(realloc_freed), KIND(realloc_freed_large), KIND(realloc_interior),
	KIND(realloc_foreign), KIND(usable_size_interior), KIND(usable_size_foreign), KIND(align_not_a_power),
	KIND(size_overflow), KIND(free_sized_wrong), KIND(free_sized_large_wrong), KIND(delete_sized_wrong),
	KIND(free_aligned_sized_wrong), KIND(overflow_by_one), KIND(overflow_by_many),
	KIND(overflow_of_freed_neighbour), KIND(overflow_large_by_one), KIND(overflow_large_far), KIND(overflow_small_far), KIND(underflow),
	KIND(write_after_free), KIND(write_after_free_elsewhere), KIND(pointer_after_free),
	/* No kinds of their own. */
	KIND(overflow_again), KIND(write_after_free_again),
};

/* What the C library takes for itself in the first lines of many programs. */
static void work_of_others(void)
{
	time_t now = time(NULL);
	FILE *file = fopen("/dev/null", "w");
	DIR *folder = opendir("/");

	setlocale(LC_ALL, "C.UTF-8");
	CHECK(file && folder && readdir(folder) && localtime(&now));
	fprintf(file, "%f %s\n", 1e300, strerror(EXDEV));
	fclose(file);
	closedir(folder);
	setenv("ZONAL_TEST", "1", 1);
	printf("busy\n");
	fflush(stdout);
}

static void on_segv(int number)
{
	(void)number;
	_exit(4);
}

int main(int argc, char **argv)
{
	const char *kind = t_arg(argv, "kind", "");
	size_t nr = sizeof kinds / sizeof *kinds;
	int mute = (int)t_long(argv, "mute", 0);

	(void)argc;
	small = t_long(argv, "size", small);
	if (t_long(argv, "busy", 0))
		work_of_others();
	if (t_long(argv, "own", 0))
		signal(SIGSEGV, on_segv);
	for (size_t i = 0; i < nr; i++)
		if (!strcmp(kind, kinds[i].name)) {
			if (mute)
				close(2);
			errno = EXDEV;
			kinds[i].run();
			if (mute && errno != EXDEV)
				_exit(5);
			exit(3);
		}
	for (size_t i = 0; i < nr - 2; i++)
		printf("%s\n", kinds[i].name);
	return *kind ? 1 : 0;
}
