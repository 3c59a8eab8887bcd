// Looks a name up with the C library and prints its first address, or the error.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found;
	char text[INET_ADDRSTRLEN];
	int err;

	if (argc != 2)
		return 2;
	err = getaddrinfo(argv[1], NULL, &hints, &found);
	if (err != 0) {
		puts(gai_strerror(err));
		return 1;
	}
	puts(inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text));
	return 0;
}
