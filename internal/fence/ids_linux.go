//go:build linux && (amd64 || arm64)

// This file maps the ids of the user namespace of a room, and checks the descriptors of its command.

package fence

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// mapIDs gives the processes of the room the ids that they have outside. An ordinary user can
// map only its own; the superuser maps all that this process has.
func mapIDs(pid int) error {
	uids := ownMap(os.Geteuid())
	gids := ownMap(os.Getegid())
	groups := "deny"
	if os.Geteuid() == 0 {
		all, err := idMaps()
		if err == nil && writeMaps(pid, "", all[0], all[1]) == nil {
			return nil
		}
	}
	return writeMaps(pid, groups, uids, gids)
}

func ownMap(id int) string { return fmt.Sprintf("%d %d 1\n", id, id) }

// writeMaps writes the files of a user namespace (user_namespaces(7)).
func writeMaps(pid int, groups, uids, gids string) error {
	for _, file := range []struct{ name, content string }{{"setgroups", groups}, {"gid_map", gids}, {"uid_map", uids}} {
		if file.content == "" {
			continue
		}
		path := fmt.Sprintf("/proc/%d/%s", pid, file.name)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(file.content)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// idMaps returns maps of user and group ids that leave all ids of this process as they are.
func idMaps() (maps [2]string, err error) {
	for i, name := range []string{"uid_map", "gid_map"} {
		own, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			return maps, err
		}
		for line := range strings.Lines(string(own)) {
			if f := strings.Fields(line); len(f) == 3 {
				maps[i] += fmt.Sprintf("%s %s %s\n", f[0], f[0], f[2])
			}
		}
	}
	return maps, nil
}

// checkDescriptors checks that the command has no descriptors that it must not have.
func checkDescriptors(pid, extraFiles int) error {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return problem("descriptors", err, "mount /proc, and let the command be a file that you can read")
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= 3+extraFiles {
			target, _ := os.Readlink(dir + "/" + e.Name())
			return fmt.Errorf("fence: the command would inherit descriptor %d (%s), which another thread opened meanwhile", fd, target)
		}
	}
	return nil
}
