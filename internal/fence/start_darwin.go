// On macOS, a command gets a sandbox profile. Nothing is captured: a network extension needs
// a signed application, and packet filters need root.

package fence

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"example.com/networkproxy/internal/seatbelt"
)

func start(cmd *exec.Cmd, config Config) (*Room, error) {
	if !config.Profile {
		return nil, unsupported(runtime.GOOS)
	}
	return startWithProfile(cmd, config, seatbelt.Program)
}

// probe starts a program with a profile, because sandbox-exec refuses profiles that it cannot
// read. It does not try to get out.
func probe(ctx context.Context, config Config) (Report, error) {
	config.Profile = true
	cmd := exec.CommandContext(ctx, "/usr/bin/true")
	room, err := start(cmd, config)
	if err != nil {
		return Report{}, err
	}
	if err := cmd.Wait(); err != nil {
		return Report{}, &Error{
			Problem: Problem{Part: "sandbox profile", Error: "sandbox-exec refuses it: " + err.Error(), Fix: "do not start this program in a sandbox"},
			Err:     err,
		}
	}
	return room.Report(), nil
}

// closeOnExec marks all descriptors of this process except the standard streams, so that the
// command does not inherit those that the launcher of this process left open.
func closeOnExec() error {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return &Error{Problem: Problem{Part: "descriptors", Error: err.Error(), Fix: "make /dev/fd readable"}, Err: err}
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}
