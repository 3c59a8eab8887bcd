# Short names for steps of .ci/run and for the go command. See CONTRIBUTING.md.
.PHONY: test short race e2e fuzz bench ci

test:
	go test ./...
short:
	go test -short ./...
race:
	bash .ci/run race
e2e:
	bash .ci/run e2e
fuzz:
	bash .ci/run fuzz
bench:
	go run ./bench
ci:
	bash .ci/run
