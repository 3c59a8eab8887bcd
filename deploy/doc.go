// Package deploy has the files with which the program runs as a service, and their
// tests. It has no code that others can import. docs/operate.md describes the files.
package deploy
