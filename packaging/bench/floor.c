/*
 * The floor under every UDP server on this kernel: it answers each query with 192.0.2.1 and looks
 * nothing up. What it costs is what sockets cost. Usage: floor PORT, on loopback.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, SIZE = 1232, HEADER = 12 };

static const unsigned char record[] = {0xc0, HEADER, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 1};

/* Makes the answer in the query's place; returns its length, or 0 if there is no question. */
static size_t answer(unsigned char *message, size_t length)
{
	size_t end = HEADER;

	while (end < length && message[end] != 0)
		end += 1 + message[end];
	end += 1 + 4;
	if (end > length)
		return 0;
	message[2] |= 0x80; /* QR */
	message[3] = 0x80;  /* RA */
	memcpy(message + 6, "\0\1\0\0\0", 6); /* one answer; no OPT */
	memcpy(message + end, record, sizeof record);
	return end + sizeof record;
}

int main(int argc, char **argv)
{
	static unsigned char messages[BATCH][SIZE + sizeof record];
	static struct sockaddr_in clients[BATCH];
	static struct iovec parts[BATCH];
	static struct mmsghdr batch[BATCH];
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0), buffer = 4 << 20;

	if (argc != 2)
		errx(2, "usage: floor PORT");
	own.sin_port = htons((uint16_t)atoi(argv[1]));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
	if (bind(fd, (struct sockaddr *)&own, sizeof own) != 0)
		err(1, "bind");
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			parts[i] = (struct iovec){messages[i], SIZE};
			batch[i].msg_hdr = (struct msghdr){
				.msg_name = &clients[i], .msg_namelen = sizeof clients[i], .msg_iov = &parts[i], .msg_iovlen = 1};
		}
		int received = recvmmsg(fd, batch, BATCH, MSG_WAITFORONE, NULL), answered = 0;

		for (int i = 0; i < received; i++) {
			size_t length = answer(messages[i], batch[i].msg_len);

			if (length == 0)
				continue;
			batch[answered] = batch[i];
			parts[i].iov_len = length;
			answered++;
		}
		if (answered > 0)
			sendmmsg(fd, batch, (unsigned)answered, 0);
	}
}
