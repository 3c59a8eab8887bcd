//go:build darwin || (linux && (amd64 || arm64))

// This file starts a command with a sandbox profile of macOS. It is built on Linux for its
// tests only.

package fence

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"example.com/networkproxy/internal/seatbelt"
)

// profile returns the sandbox profile for a configuration, and the report of a command
// with that profile.
func (c Config) profile() (seatbelt.Profile, Report, error) {
	p := seatbelt.Profile{UnixSockets: c.UnixSockets}
	for _, a := range c.Proxies {
		if text := a.Addr().String(); text != "127.0.0.1" && text != "::1" {
			return p, Report{}, &Error{Problem: Problem{
				Part:  "proxies",
				Error: fmt.Sprintf("the proxy listens at %v", a),
				Fix:   "let it listen at 127.0.0.1 or ::1, because a sandbox profile cannot name other addresses",
			}}
		}
		p.Ports = append(p.Ports, a.Port())
	}
	r := Report{
		Profile: true,
		// The others have not been examined, or stay open. macOS has no abstract sockets and
		// no io_uring.
		Enforced: Enforced{TCP: true, UDP: true, ICMP: true, IPv6: true, UnixPath: true, UnixAbstract: true, IOUring: true},
		Problems: []Problem{{
			Part:  "sandbox profile",
			Error: "generated; not verified on a Mac",
			Fix:   "check with commands of your own that nothing but the proxy can be reached",
		}},
	}
	if c.UDP {
		r.Problems = append(r.Problems, Problem{
			Part: "UDP", Error: "macOS cannot capture datagrams; they are refused", Fix: "run the command on Linux",
		})
	}
	if len(c.Listen) > len(c.Proxies) {
		r.Problems = append(r.Problems, Problem{
			Part: "local targets", Error: "macOS cannot capture connections to local services; they are refused", Fix: "reach them through the proxy",
		})
	}
	return p, r, nil
}

// startWithProfile starts cmd with a sandbox profile. program applies it.
func startWithProfile(cmd *exec.Cmd, config Config, program string) (*Room, error) {
	p, report, err := config.profile()
	if err != nil {
		return nil, err
	}
	if err := checkProfiled(cmd); err != nil {
		return nil, err
	}
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	command, err := executable(cmd)
	if err != nil {
		return nil, err
	}
	var own []string
	if len(cmd.Args) > 1 {
		own = cmd.Args[1:]
	}
	arguments, err := p.Arguments(command, own...)
	if err != nil {
		return nil, err
	}
	if err := closeOnExec(); err != nil {
		return nil, err
	}
	path, args := cmd.Path, cmd.Args
	cmd.Path, cmd.Args = program, append([]string{program}, arguments...)
	if err := cmd.Start(); err != nil {
		cmd.Path, cmd.Args = path, args
		return nil, &Error{Problem: Problem{Part: "sandbox-exec", Error: err.Error(), Fix: "use a macOS that has " + seatbelt.Program}, Err: err}
	}
	return &Room{report: report}, nil
}

// executable returns the path of the command for another program that executes it. It
// returns an error if there is no such program, as cmd.Start does.
func executable(cmd *exec.Cmd) (string, error) {
	command := cmd.Path
	if !strings.Contains(command, "/") {
		command = "./" + command // else it would be looked up in PATH
	}
	at := command
	if !filepath.IsAbs(at) {
		at = filepath.Join(cmd.Dir, at)
	}
	info, err := os.Stat(at)
	switch {
	case err != nil:
		return "", err
	case info.IsDir() || info.Mode()&0o111 == 0:
		return "", &os.PathError{Op: "exec", Path: command, Err: os.ErrPermission}
	}
	return command, nil
}

// checkProfiled refuses sockets that the command would inherit. A socket that is connected to
// a Unix socket leads only to the program that passed it.
func checkProfiled(cmd *exec.Cmd) error {
	files := make([]*os.File, 0, 3+len(cmd.ExtraFiles))
	for _, stream := range []any{cmd.Stdin, cmd.Stdout, cmd.Stderr} {
		if f, ok := stream.(*os.File); ok {
			files = append(files, f)
		}
	}
	for _, f := range append(files, cmd.ExtraFiles...) {
		if f == nil {
			continue
		}
		info, err := f.Stat()
		if err != nil || info.Mode()&os.ModeSocket == 0 {
			continue // cmd.Start reports the error
		}
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		inner := error(nil)
		if err := raw.Control(func(fd uintptr) { inner = checkSocket(int(fd)) }); err != nil {
			return err
		}
		if inner != nil {
			return inner
		}
	}
	return nil
}

func checkSocket(fd int) error {
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	peer, err := syscall.Getpeername(fd)
	if _, unix := peer.(*syscall.SockaddrUnix); err != nil || !unix || kind != syscall.SOCK_STREAM {
		return errors.New("fence: a standard stream or extra file is a socket, which would be a way out; use a pipe")
	}
	return nil
}
