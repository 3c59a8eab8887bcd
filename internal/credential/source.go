package credential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Source returns the present secret of a provider. Its error never contains the secret.
// Safe for concurrent use.
type Source interface {
	Secret(ctx context.Context) (string, error)
}

// SourceOf returns the source of a secret: f, or a file, or a variable of an environment.
// At most one may be given; with none, it returns nil. It reads a file or a variable once,
// so that a missing secret is found early. With an error it returns the key of the
// configuration that it is about.
func SourceOf(environ func() []string, f Source, variable, path string) (source Source, key string, err error) {
	switch {
	case f != nil && (variable != "" || path != ""), variable != "" && path != "":
		return nil, "secret_file", errors.New("there are two sources of the secret: leave one of secret_env_var, secret_file and Builder.Credential")
	case f != nil:
		return f, "", nil
	case path != "" && !filepath.IsAbs(path):
		return nil, "secret_file", errors.New("must be an absolute path")
	case path != "":
		source = File(path)
		_, err = source.Secret(context.Background())
		return source, "secret_file", err
	case variable == "":
		return nil, "", nil
	}
	secret, ok := lookup(environ(), variable)
	if !ok {
		return nil, "secret_env_var", fmt.Errorf("the environment variable %s is not set", variable)
	}
	if err := Check(secret); err != nil {
		return nil, "secret_env_var", fmt.Errorf("the value of the environment variable %s %w", variable, err)
	}
	return Fixed(secret), "secret_env_var", nil
}

// Fixed returns a source with one secret.
func Fixed(secret string) Source { return fixed{&secret} }

type fixed struct{ secret *string }

func (f fixed) Secret(context.Context) (string, error) { return *f.secret, nil }

// Format writes no secret.
func (f fixed) Format(s fmt.State, _ rune) { io.WriteString(s, "fixed secret") }

// File returns a source that reads a file, and reads it again when the file has changed.
// Line ends at the end of the file do not count.
func File(path string) Source { return &file{path: path} }

type file struct {
	path string

	mu     sync.Mutex
	info   os.FileInfo // of the file when secret was read
	secret string
}

// Format writes no secret.
func (f *file) Format(s fmt.State, _ rune) { io.WriteString(s, "secret file") }

// Secret implements Source.
func (f *file) Secret(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	switch {
	case err != nil:
		return "", err
	case f.info != nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size():
		return f.secret, nil
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%q is no regular file", f.path)
	case !privateFile(info):
		return "", fmt.Errorf("%q can be read or changed by other users (mode %#o): chmod 600 it", f.path, info.Mode().Perm())
	case info.Size() > MaxSecret+2:
		return "", fmt.Errorf("%q is too large for a secret: it has %d bytes", f.path, info.Size())
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if err := Check(secret); err != nil {
		return "", fmt.Errorf("the content of %q %w", f.path, err)
	}
	f.info, f.secret = info, secret
	return secret, nil
}

// FuncTimeout bounds a call of the function of [Func].
const FuncTimeout = 5 * time.Second

// Func returns a source that calls a function, which may be slow and may panic. The
// secret is kept until the time that the function returns with it; the zero time means
// that it is not kept. Calls at the same time share one.
func Func(f func(ctx context.Context) (secret string, until time.Time, err error)) Source {
	return &function{call: f}
}

type function struct {
	call  func(ctx context.Context) (string, time.Time, error)
	calls singleflight.Group

	mu     sync.Mutex
	secret string
	until  time.Time
}

// Format writes no secret.
func (f *function) Format(s fmt.State, _ rune) { io.WriteString(s, "secret of a function") }

// Secret implements Source.
func (f *function) Secret(ctx context.Context) (string, error) {
	f.mu.Lock()
	secret, until := f.secret, f.until
	f.mu.Unlock()
	if time.Now().Before(until) {
		return secret, nil
	}
	// The call belongs to all that wait for it, so it does not end with the first.
	shared, cancel := context.WithTimeout(context.WithoutCancel(ctx), FuncTimeout)
	results := f.calls.DoChan("", func() (any, error) {
		defer cancel()
		secret, until, err := f.call(shared)
		if err == nil {
			err = Check(secret)
		}
		if err != nil {
			return "", err
		}
		f.mu.Lock()
		f.secret, f.until = secret, until
		f.mu.Unlock()
		return secret, nil
	})
	timeout := time.NewTimer(FuncTimeout)
	defer timeout.Stop()
	select {
	case r := <-results:
		return r.Val.(string), r.Err
	case <-timeout.C:
		f.calls.Forget("")
		return "", errors.New("its function did not return in time")
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
