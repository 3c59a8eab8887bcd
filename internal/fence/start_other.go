//go:build !darwin && (!linux || !(amd64 || arm64))

package fence

import (
	"context"
	"os/exec"
	"runtime"
)

func start(*exec.Cmd, Config) (*Room, error) { return nil, unsupported(runtime.GOOS) }

func probe(context.Context, Config) (Report, error) { return Report{}, unsupported(runtime.GOOS) }
