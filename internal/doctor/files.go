package doctor

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxFile  = 4 << 20 // octets of a file that are read; what is here is kilobytes
	maxLinks = 40      // symbolic links in a row, as path_resolution(7) has it
)

// tree is a system's files. Links in it lead where they would if it were "/".
type tree string

// locate returns where name, an absolute path inside, is outside.
func (t tree) locate(name string) (string, error) {
	if t == "/" {
		return name, nil
	}
	inside, rest := "/", strings.Split(strings.Trim(name, "/"), "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		next := filepath.Join(inside, part)
		target, err := os.Readlink(filepath.Join(string(t), next))
		if err != nil { // no link, or nothing at all, which opening it will say
			inside = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("opening %q: too many links", name)
		}
		if filepath.IsAbs(target) {
			inside = "/"
		}
		rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest...)
	}
	return filepath.Join(string(t), inside), nil
}

// read returns the beginning of a file.
func (t tree) read(name string) (string, error) {
	path, err := t.locate(name)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular(): // a pipe might never end
		return "", fmt.Errorf("opening %q: not a regular file", name)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(text), err
}

func (t tree) exists(name string) bool {
	path, err := t.locate(name)
	if err != nil {
		return false
	}
	_, err = os.Stat(path)
	return err == nil
}

// link returns where the link at name leads, "" if it is none.
func (t tree) link(name string) string {
	dir, err := t.locate(filepath.Dir(name))
	if err != nil {
		return ""
	}
	target, err := os.Readlink(filepath.Join(dir, filepath.Base(name)))
	if err != nil {
		return ""
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(name), target)
	}
	return filepath.Clean(target)
}

// entries returns the names in a folder, in order; none if it cannot be read.
func (t tree) entries(name string) []string {
	path, err := t.locate(name)
	if err != nil {
		return nil
	}
	list, _ := os.ReadDir(path)
	return names(list)
}

func names(list []fs.DirEntry) (all []string) {
	for _, e := range list {
		all = append(all, e.Name())
	}
	slices.Sort(all)
	return all
}

// dropIns returns the paths of a configuration's main file and its drop-ins, in the order in which the last
// word counts; see systemd's CONFIGURATION DIRECTORIES AND PRECEDENCE in resolved.conf(5).
func (t tree) dropIns(main string, dirs ...string) []string {
	byName := map[string]string{}
	for _, dir := range dirs { // the least important first
		for _, e := range t.entries(dir) {
			if strings.HasSuffix(e, ".conf") {
				byName[e] = dir + "/" + e
			}
		}
	}
	paths := []string{main}
	for _, name := range sortedKeys(byName) {
		paths = append(paths, byName[name])
	}
	return paths
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
