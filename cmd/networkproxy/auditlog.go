// The file of the audit log.

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// auditFile is the file that -audit names. A nil *auditFile has no file: its methods,
// except Write, do nothing.
type auditFile struct {
	path string

	mu   sync.Mutex
	file *os.File // nil before open and after close
}

// addAuditFlag defines the flag of commands that can write an audit log.
func (c *configFlags) addAuditFlag(f *flag.FlagSet) {
	f.Func("audit", "`file` to append the audit log to, one JSON object for each event; SIGHUP makes serve open it again", func(path string) error {
		if path == "" {
			return errors.New("name a file")
		}
		c.audit = &auditFile{path: path}
		return nil
	})
}

// open opens the file, and creates it if it does not exist. If it is open already, as
// after a rotation, the file that has the name now replaces it.
func (a *auditFile) open() error {
	if a == nil {
		return nil
	}
	// A FIFO that nobody reads would otherwise keep the program from starting.
	file, err := os.OpenFile(a.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		if info, statErr := os.Stat(a.path); statErr == nil && info.Mode()&os.ModeNamedPipe != 0 {
			return fmt.Errorf("-audit: %w: no process reads this FIFO; start its reader first", err)
		}
		return fmt.Errorf("-audit: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		a.file.Close()
	}
	a.file = file
	return nil
}

// Write implements io.Writer.
func (a *auditFile) Write(lines []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.file.Write(lines) // an error if it is nil
}

// close closes the file. Call it after the end of the proxy.
func (a *auditFile) close() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	if err != nil {
		return fmt.Errorf("-audit: %w", err)
	}
	return nil
}
