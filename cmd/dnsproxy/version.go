package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the linker in packages (-X main.version=...).
var version = ""

// buildVersion returns the version of this build: the package's, the module's or the commit's.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	switch {
	case version != "":
		return version
	case !ok:
		return "unknown"
	case info.Main.Version != "" && info.Main.Version != "(devel)":
		return info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(len(s.Value), 12)]
		}
	}
	return "devel"
}

func printVersion(args []string, stdout, stderr io.Writer) error {
	if err := newOptions("version", "\n\nPrints the version.", stdout).parse(args, stderr); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "dnsproxy %s (%s, %s/%s)\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
