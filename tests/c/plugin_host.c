/* Opens and closes a plugin many times and exchanges memory with it in both directions.
 * `plugin_host plugin=PATH deepbind=0|1 threads=0|1` */
#include "t.h"
#include <dlfcn.h>

static const char *path;
static int flags;

static void exchange(int rounds)
{
	for (int round = 0; round < rounds; round++) {
		void *plugin = dlopen(path, flags);
		if (!plugin)
			FAIL("%s", dlerror());
		void *(*make)(size_t) = (void *(*)(size_t))dlsym(plugin, "plugin_make");
		void (*drop)(void *) = (void (*)(void *))dlsym(plugin, "plugin_free");
		void *(*grow)(void *, size_t) = (void *(*)(void *, size_t))dlsym(plugin, "plugin_grow");
		char *(*text)(const char *) = (char *(*)(const char *))dlsym(plugin, "plugin_text");
		void *ours[40], *theirs[40];

		for (int i = 0; i < 40; i++) {
			size_t size = (size_t)1 << (i / 2);

			theirs[i] = make(size);
			ours[i] = malloc(size);
			t_fill(ours[i], size, i);
		}
		for (int i = 0; i < 40; i++) {
			size_t size = (size_t)1 << (i / 2);

			CHECK(*(char *)theirs[i] == 0x11 && ((char *)theirs[i])[size - 1] == 0x11);
			VERIFY(ours[i], size, i);
			if (i % 3 == 0) {
				CHECK((theirs[i] = realloc(theirs[i], size * 3)) && *(char *)theirs[i] == 0x11);
				CHECK((ours[i] = grow(ours[i], size * 3)) != NULL);
				VERIFY(ours[i], size & ~(size_t)7, i);
			}
			free(theirs[i]);
			drop(ours[i]);
		}
		char *copy = text("across the boundary");
		CHECK(!strcmp(copy, "across the boundary"));
		if (round % 2) {
			free(copy);
			dlclose(plugin);
		} else {
			/* Memory outlives the plugin that made it. */
			dlclose(plugin);
			free(copy);
		}
	}
}

static void *in_thread(void *arg)
{
	exchange(30);
	return arg;
}

int main(int argc, char **argv)
{
	(void)argc;
	path = t_arg(argv, "plugin", "plugin.so");
	flags = RTLD_NOW | RTLD_LOCAL | (t_long(argv, "deepbind", 0) ? RTLD_DEEPBIND : 0);
	exchange(100);
	if (t_long(argv, "threads", 0)) {
		pthread_t thread[3];

		for (int i = 0; i < 3; i++)
			CHECK(pthread_create(&thread[i], NULL, in_thread, NULL) == 0);
		for (int i = 0; i < 3; i++)
			pthread_join(thread[i], NULL);
	}
	return 0;
}
