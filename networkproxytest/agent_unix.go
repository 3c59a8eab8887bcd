//go:build unix

package networkproxytest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/networkproxy"
)

// agent is a running command, from the kit's side.
type agent struct {
	mu     sync.Mutex // one request at a time
	socket *net.UnixConn
	end    func() // ends the command
	once   sync.Once
}

// launchAgent starts the command in a fence of a session.
func launchAgent(s *networkproxy.Session, test string, config networkproxy.FenceConfig) (*agent, networkproxy.FenceLevel, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	f, err := s.Fence(context.Background(), config)
	if err != nil {
		return nil, "", err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, "", err
	}
	var out bytes.Buffer
	cmd := exec.Command(self, "-test.run="+exactly(test), "-test.count=1")
	cmd.Env = append(s.Environ(os.Environ()), agentVariable+"=1")
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.ExtraFiles = []*os.File{theirs}
	err = f.Start(cmd)
	theirs.Close() // so that the end of the command is the end of the connection
	if err != nil {
		ours.Close()
		f.Close()
		return nil, "", err
	}
	a := &agent{socket: ours}
	a.end = func() {
		cmd.Process.Kill()
		cmd.Wait()
		f.Close()
	}
	if _, err := a.read(); err != nil {
		a.close()
		return nil, "", fmt.Errorf("the command in the fence did not begin: %w: %s", err, bytes.TrimSpace(out.Bytes()))
	}
	return a, f.Report().Level, nil
}

// exactly returns the value of -test.run for one test.
func exactly(test string) string {
	parts := strings.Split(test, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return strings.Join(parts, "/")
}

// socketPair returns two connected sockets.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "command")
	if ours, err = unixConn(os.NewFile(uintptr(fds[0]), "kit")); err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// unixConn returns a connection for a socket, and closes the file.
func unixConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// close ends the command.
func (a *agent) close() {
	a.once.Do(func() {
		a.socket.Close()
		a.end()
	})
}

// dial makes the command connect, and returns the connection. Its socket is the command's.
func (a *agent) dial(network, addr string) (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	text, err := json.Marshal(agentRequest{network, addr})
	if err != nil {
		return nil, err
	}
	if _, err := a.socket.Write(text); err != nil {
		return nil, fmt.Errorf("%w: %w", errAgentGone, err)
	}
	f, err := a.read()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileConn(f)
}

// read reads a response with the file in it. The first response of a command has none.
func (a *agent) read() (*os.File, error) {
	buf, control := make([]byte, 4096), make([]byte, syscall.CmsgSpace(4))
	a.socket.SetReadDeadline(time.Now().Add(2 * dialTimeout))
	n, controlled, _, _, err := a.socket.ReadMsgUnix(buf, control)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAgentGone, err)
	}
	var response agentResponse
	if err := json.Unmarshal(buf[:n], &response); err != nil {
		return nil, err
	}
	if response.Error != "" {
		return nil, errors.New(response.Error)
	}
	messages, err := syscall.ParseSocketControlMessage(control[:controlled])
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			return os.NewFile(uintptr(fd), "connection"), nil
		}
	}
	return nil, nil
}

// serveAgent is the command. It ends with the kit.
func serveAgent() error {
	socket, err := unixConn(os.NewFile(agentDescriptor, "kit"))
	if err != nil {
		return fmt.Errorf("%s is for the kit: %w", agentVariable, err)
	}
	return serveRequests(socket)
}

// serveRequests makes the connections that the kit asks for.
func serveRequests(socket *net.UnixConn) error {
	defer socket.Close()
	if err := respond(socket, nil, nil); err != nil {
		return err
	}
	requests := json.NewDecoder(socket)
	for {
		var r agentRequest
		if requests.Decode(&r) != nil {
			return nil // the kit has ended
		}
		c, err := connect(r.Network, r.Addr)
		if err := respond(socket, c, err); err != nil {
			return err
		}
	}
}

// respond sends a connection or an error to the kit.
func respond(socket *net.UnixConn, c net.Conn, failure error) error {
	var response agentResponse
	var rights []byte
	if failure != nil {
		response.Error = failure.Error()
	} else if c != nil {
		defer c.Close()
		f, err := c.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			return err
		}
		defer f.Close()
		rights = syscall.UnixRights(int(f.Fd()))
	}
	text, err := json.Marshal(response)
	if err != nil {
		return err
	}
	_, _, err = socket.WriteMsgUnix(text, rights, nil)
	return err
}
