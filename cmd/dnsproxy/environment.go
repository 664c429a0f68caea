// Go's switches as they should be, whatever go.mod makes the default (go.dev/doc/godebug).
//
//go:debug rsa1024min=1
//go:debug tlsmlkem=1
//go:debug tlssha1=0
//go:debug tlsunsafeekm=0
//go:debug x509negativeserial=0

package main

import (
	"log/slog"
	"os"
	"strings"
)

// warnEnvironment says if the environment changes how upstreams are authenticated or
// queries encrypted. It is no error: what the configuration demands is checked on each session.
func warnEnvironment(log *slog.Logger) {
	for setting := range strings.SplitSeq(os.Getenv("GODEBUG"), ",") {
		for _, prefix := range []string{"tls", "x509", "rsa"} {
			if strings.HasPrefix(setting, prefix) {
				log.Warn("GODEBUG changes TLS; unset it", "setting", setting)
			}
		}
	}
}
