/* A plugin with an allocator of its own, opened and closed again and again: threads that used it end after it was
 * closed, and the process forks. Its first allocation comes in a thread for which another one waits inside the
 * loader. `closed plugin=PATH opening=PATH` */
#include "t.h"
#include <dlfcn.h>

static size_t (*work)(size_t);
static pthread_barrier_t used, closed;

static void *use(void *arg)
{
	CHECK(work(500) == 499 * 500 / 2);
	pthread_barrier_wait(&used);
	pthread_barrier_wait(&closed);
	return arg;
}

static void *use_first(void *arg)
{
	CHECK(work(10) == 9 * 10 / 2);
	return arg;
}

static void inside_the_loader(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, use_first, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv)
{
	const char *path = t_arg(argv, "plugin", NULL);

	(void)argc;
	pthread_barrier_init(&used, NULL, 2);
	pthread_barrier_init(&closed, NULL, 2);
	for (int round = 0; round < 20; round++) {
		void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		pthread_t thread;
		pid_t child;
		int status;

		if (!plugin)
			FAIL("%s", dlerror());
		work = (size_t (*)(size_t))dlsym(plugin, "work");
		CHECK(work);
		if (round == 0) {
			char text[32];

			snprintf(text, sizeof(text), "%p", (void *)inside_the_loader);
			CHECK(setenv("OPENING", text, 1) == 0);
			if (!dlopen(t_arg(argv, "opening", NULL), RTLD_NOW))
				FAIL("%s", dlerror());
		}
		CHECK(work(3000) == 2999 * 3000 / 2);
		CHECK(pthread_create(&thread, NULL, use, NULL) == 0);
		pthread_barrier_wait(&used);
		CHECK(dlclose(plugin) == 0);
		pthread_barrier_wait(&closed);
		CHECK(pthread_join(thread, NULL) == 0);
		CHECK((child = fork()) >= 0);
		if (child == 0)
			_exit(0);
		CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	return 0;
}
