/* A plugin: takes and frees memory on its side of the boundary. */
#include <stdlib.h>
#include <string.h>

void *plugin_make(size_t size)
{
	return memset(malloc(size), 0x11, size);
}

void plugin_free(void *p)
{
	free(p);
}

void *plugin_grow(void *p, size_t size)
{
	return realloc(p, size);
}

char *plugin_text(const char *text)
{
	return strdup(text);
}
