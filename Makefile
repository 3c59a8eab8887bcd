# Short names for steps of .ci/run and for the go command. See CONTRIBUTING.md.
.PHONY: test race e2e fuzz bench ci

test:
	go test ./...
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
