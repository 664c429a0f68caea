// Command dnsproxy forwards DNS queries to upstream resolvers over TLS 1.3.
package main

func main() {}
