/* Calls before constructors, in constructors, in destructors and after the exit handlers. */
#include "t.h"

static char *first, *second;

static void use(void)
{
	char *p[40];

	for (int i = 0; i < 40; i++) {
		CHECK((p[i] = i % 2 ? malloc(1u << (i / 2)) : calloc(1, i * 50)) != NULL);
		p[i][0] = i;
	}
	for (int i = 0; i < 40; i++)
		CHECK((p[i] = realloc(p[i], i * 300 + 1)) != NULL && p[i][0] == i);
	for (int i = 0; i < 40; i++)
		free(p[i]);
}

static void preinit(int argc, char **argv, char **env)
{
	(void)argc, (void)argv, (void)env;
	use();
	first = malloc(1000);
	t_fill(first, 1000, 1);
}
__attribute__((section(".preinit_array"), used)) static void (*in_preinit)(int, char **, char **) = preinit;

__attribute__((constructor(101))) static void construct(void)
{
	use();
	VERIFY(first, 1000, 1);
	CHECK((first = realloc(first, 5000)) != NULL);
	second = malloc(70000);
	t_fill(second, 70000, 2);
}

__attribute__((destructor(101))) static void destruct(void)
{
	use();
	VERIFY(second, 70000, 2);
	free(second);
	if (write(1, "end\n", 4) != 4)
		_exit(9);
}

static void leave(void)
{
	use();
	CHECK(t_differs(first, 1000, 1000, 1) < 0);
	free(first);
}

static void leave_with(int status, void *block)
{
	CHECK(status == 0);
	use();
	free(block);
}

static void *thread_at_exit(void *arg)
{
	use();
	return arg;
}

static void leave_with_thread(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, thread_at_exit, NULL) == 0);
	pthread_join(thread, NULL);
}

int main(void)
{
	CHECK(atexit(leave) == 0 && on_exit(leave_with, malloc(100)) == 0 && atexit(leave_with_thread) == 0);
	use();
	return 0;
}
