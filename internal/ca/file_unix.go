//go:build unix

package ca

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openNonblock keeps the opening of a FIFO from waiting for another process.
const openNonblock = syscall.O_NONBLOCK

// checkPrivate returns an error unless a file belongs to this user or to root, and is closed to all others.
func checkPrivate(info fs.FileInfo) error { return checkPrivateTo(os.Geteuid(), info) }

// checkPrivateTo is checkPrivate for the user uid. The group root may read a file of root, because the permission of a single
// user in an ACL shows as one of the group: so systemd passes a key of root to the user of a service (LoadCredential).
func checkPrivateTo(uid int, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	others := fs.FileMode(0o077)
	if ok && stat.Uid == 0 && stat.Gid == 0 && uid != 0 {
		others = 0o037
	}
	if mode := info.Mode().Perm(); mode&others != 0 {
		return fmt.Errorf("other users may have access to the private key, because its mode is %04o: run chmod 600 on it, and make a new CA if others could read it", mode)
	}
	if ok && stat.Uid != 0 && int(stat.Uid) != uid {
		return fmt.Errorf("the private key belongs to the user with the number %d, and this is user %d: it must belong to the user who runs the proxy, or to root", stat.Uid, uid)
	}
	return nil
}
