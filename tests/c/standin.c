/* Stands in for "program" where the documents run one: some threads, some memory. With the argument
 * "serve" it goes on until its input ends. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *work(void *unused)
{
	static __thread char *kept[4000];
	for (int round = 0; round < 4; round++)
		for (int i = 0; i < 4000; i++) {
			size_t size = 16 + (i * 37 + round) % 3000;
			free(kept[i]);
			kept[i] = malloc(size);
			if (!kept[i])
				return kept;
			memset(kept[i], i, size);
		}
	for (int i = 0; i < 4000; i++) {
		free(kept[i]);
		kept[i] = NULL;
	}
	return NULL;
}

static void *serve(void *unused)
{
	void *failed;
	for (;;) {
		failed = work(NULL);
		if (failed)
			return failed;
		usleep(20000);
	}
}

int main(int argc, char **argv)
{
	int serves = argc > 1 && !strcmp(argv[1], "serve");
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		if (pthread_create(&threads[i], NULL, serves && i == 0 ? serve : work, NULL))
			return 1;
	if (serves) {
		char byte;
		while (read(0, &byte, 1) > 0)
			;
		return 0;
	}
	void *failed = NULL;
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], &failed);
		if (failed)
			return 1;
	}
	return 0;
}
