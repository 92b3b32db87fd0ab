/* The ceiling: what a C program on expat needs to fan a component's stream out.
 *
 * Connects, parses the stream, and writes each stanza's bytes once for each device with
 * "/d1", "/d2" ... put behind the bare JID in its `to`. No decision, no state, nothing
 * is checked: less than any component that obeys XMPP can do.
 *
 * Usage: ceiling PORT DEVICES
 */
#include <arpa/inet.h>
#include <expat.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 262144, MAX_DEVICES = 16 };

static XML_Parser parser;
static int depth, devices;
static char *input;                 /* bytes from `base` of the stream on */
static size_t input_length, input_size;
static long base, stanza_start, to_end;
static char *output;
static size_t output_length, output_size;
static char suffix[MAX_DEVICES][16];

static void *grown(void *memory, size_t size)
{
    void *result = realloc(memory, size);
    if (result == NULL) {
        perror("realloc");
        exit(1);
    }
    return result;
}

static void append(const char *data, size_t length)
{
    if (output_length + length > output_size) {
        output_size = (output_length + length) * 2;
        output = grown(output, output_size);
    }
    memcpy(output + output_length, data, length);
    output_length += length;
}

/* Find the end of the raw value of `to` in a start tag, minding quotes. */
static long end_of_to(const char *tag, long length)
{
    int in_to = 0;
    char quote = 0;
    for (long i = 1; i < length; i++) {
        if (quote) {
            if (tag[i] == quote) {
                if (in_to)
                    return i;
                quote = 0;
            }
        } else if (tag[i] == '\'' || tag[i] == '"') {
            quote = tag[i];
            in_to = i >= 4 && memcmp(tag + i - 4, " to=", 4) == 0;
        }
    }
    return -1;
}

static void opened(void *data, const XML_Char *name, const XML_Char **attributes)
{
    (void)data, (void)name, (void)attributes;
    if (depth++ == 1) {
        stanza_start = XML_GetCurrentByteIndex(parser);
        long found = end_of_to(input + (stanza_start - base), XML_GetCurrentByteCount(parser));
        to_end = found < 0 ? -1 : stanza_start + found;
    }
}

static void closed(void *data, const XML_Char *name)
{
    (void)data, (void)name;
    if (--depth != 1 || to_end < 0)
        return;
    long end = XML_GetCurrentByteIndex(parser) + XML_GetCurrentByteCount(parser);
    const char *stanza = input + (stanza_start - base);
    for (int i = 0; i < devices; i++) {
        append(stanza, to_end - stanza_start);
        append(suffix[i], strlen(suffix[i]));
        append(stanza + (to_end - stanza_start), end - to_end);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3 || (devices = atoi(argv[2])) < 1 || devices > MAX_DEVICES) {
        fprintf(stderr, "usage: ceiling PORT DEVICES\n");
        return 2;
    }
    for (int i = 0; i < devices; i++)
        snprintf(suffix[i], sizeof suffix[i], "/d%d", i + 1);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int link = socket(AF_INET, SOCK_STREAM, 0);
    if (link < 0 || connect(link, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("connect");
        return 1;
    }
    parser = XML_ParserCreate(NULL);
    XML_SetElementHandler(parser, opened, closed);
    for (;;) {
        if (input_length + CHUNK > input_size) {
            input_size = (input_length + CHUNK) * 2;
            input = grown(input, input_size);
        }
        ssize_t got = read(link, input + input_length, CHUNK);
        if (got <= 0)
            return got < 0;
        input_length += got;
        if (XML_Parse(parser, input + input_length - got, got, 0) == XML_STATUS_ERROR) {
            fprintf(stderr, "%s\n", XML_ErrorString(XML_GetErrorCode(parser)));
            return 1;
        }
        /* Keep what belongs to an element that is not complete. */
        long parsed = base + input_length;
        long keep_from = depth > 1 ? stanza_start : XML_GetCurrentByteIndex(parser);
        if (keep_from < base || keep_from > parsed)
            keep_from = parsed;
        memmove(input, input + (keep_from - base), parsed - keep_from);
        input_length = parsed - keep_from;
        base = keep_from;
        for (size_t done = 0; done < output_length;) {
            ssize_t wrote = write(link, output + done, output_length - done);
            if (wrote <= 0) {
                perror("write");
                return 1;
            }
            done += wrote;
        }
        output_length = 0;
    }
}
