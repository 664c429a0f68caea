package dot

import (
	"crypto/tls"
	"slices"
	"sync"
	_ "unsafe" // for go:linkname
)

// crypto/tls has no setting for the suites of TLS 1.3: Config.CipherSuites does
// not apply to it. These two variables are what its ClientHello offers, on
// machines with and without AES instructions, and it keeps them linkable
// (crypto/tls/defaults.go, go.dev/issue/67401). verify checks what was chosen
// all the same.

//go:linkname offeredSuites crypto/tls.defaultCipherSuitesTLS13
var offeredSuites []uint16

//go:linkname offeredSuitesNoAES crypto/tls.defaultCipherSuitesTLS13NoAES
var offeredSuitesNoAES []uint16

// helloMu is held by each handshake from before offer until its ClientHello,
// for which alone crypto/tls reads the variables on the client's side, is made.
// So endpoints with different suites can dial at the same time.
var helloMu sync.Mutex

// offerLocked makes the next ClientHello offer exactly suites, in that order,
// or all three of TLS 1.3 if there are none. It writes only what changes: a TLS server in
// this process, which reads the variables as its preference, sees no write while all
// endpoints have the same suites.
func offerLocked(suites []uint16) {
	if len(suites) == 0 {
		suites = []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}
	}
	if !slices.Equal(offeredSuites, suites) {
		offeredSuites = slices.Clone(suites)
	}
	if !slices.Equal(offeredSuitesNoAES, suites) {
		offeredSuitesNoAES = slices.Clone(suites)
	}
}
