// The process of a proxy.

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a running proxy.
type process struct {
	http, socks netip.AddrPort
	command     *exec.Cmd
	stopViewers context.CancelFunc
	exited      chan struct{} // closed when the process has exited
	dir         string
	log         string
}

// startTimeout is the time within which a proxy must accept connections.
const startTimeout = 10 * time.Second

// errStart is the error for a proxy that does not start. It is not started again for
// the same workload.
var errStart = errors.New("does not start")

// start starts a candidate and returns when it accepts connections. The process
// gets the credential, or that of bench if it is nil.
func (c *candidate) start(ctx context.Context, s setup, credential *syscall.Credential) (*process, error) {
	dir, err := os.MkdirTemp(s.dir, c.name+"-")
	if err != nil {
		return nil, err
	}
	s.dir = dir
	if err := s.choosePorts(); err != nil {
		return nil, err
	}
	args, err := c.arguments(&s)
	if err != nil {
		return nil, err
	}
	p := &process{http: s.http, socks: s.socks, exited: make(chan struct{}), dir: dir, log: filepath.Join(dir, "log")}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if credential != nil {
		if err := os.Chown(dir, int(credential.Uid), int(credential.Gid)); err != nil {
			return nil, err
		}
	}
	p.command = exec.CommandContext(ctx, args[0], args[1:]...)
	p.command.Dir = dir
	p.command.Stdout, p.command.Stderr = log, log
	if s.roots != "" {
		p.command.Env = append(os.Environ(), "SSL_CERT_FILE="+s.roots)
	}
	p.command.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.command.Wait()
		close(p.exited)
	}()
	wanted := p.http
	if s.udp {
		wanted = p.socks
	}
	watched, stopViewers := context.WithCancel(ctx)
	p.stopViewers = stopViewers
	err = p.ready(ctx, wanted)
	if err == nil {
		err = c.viewers.follow(watched, s.admin)
	}
	if err != nil {
		defer p.stop()
		return nil, fmt.Errorf("%w: %w%s", errStart, err, p.logTail())
	}
	return p, nil
}

// ready waits until something accepts connections at addr.
func (p *process) ready(ctx context.Context, addr netip.AddrPort) error {
	for until := time.Now().Add(startTimeout); time.Now().Before(until); {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.exited:
			return errors.New("process exited")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("nothing accepts connections at %s", addr)
}

// logTail returns the end of the output of an exited process, for an error message.
func (p *process) logTail() string {
	select {
	case <-p.exited:
	default:
		return ""
	}
	text, err := os.ReadFile(p.log)
	if text = bytes.TrimSpace(text); err != nil || len(text) == 0 {
		return ""
	}
	return ": " + string(text[max(0, len(text)-400):])
}

// stop ends the process and removes its files.
func (p *process) stop() {
	p.stopViewers()
	p.command.Process.Kill()
	<-p.exited
	os.RemoveAll(p.dir)
}

func (p *process) pid() int { return p.command.Process.Pid }

// copyProgram copies an executable and makes it executable by every user.
func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
