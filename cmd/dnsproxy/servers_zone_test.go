//go:build servers

package main_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The zones of the rig, below a top-level domain of its own, so that no
// special-use name (RFC 6761) is in the way:
//
//	.            delegates rig. to the first authoritative server
//	rig.         delegates the zones below to the same server
//	types.rig.   one owner for each RR type that miekg/dns knows how to make
//	plain.rig.   chains, wildcards, delegations, sizes, odd names
//	signed.rig.  DNSSEC with NSEC; nsec3.rig. with NSEC3
//	bogus.rig.   a signed zone of which the trust anchor is another key
//
// The second server has the zones that are delegated from these, among them
// child.plain.rig. behind 13 name servers with glue.
const (
	firstServer      = "198.18.0.2" // RFC 2544's range: knot-resolver believes no glue that is 127/8
	secondServer     = "198.18.0.3"
	secondServerIPv6 = "fd00::3"
	zoneTTL          = 3600
)

// delegated are the zones of the second server.
var delegated = []string{"child.plain.rig.", "ns.types.rig.", "unsigned.signed.rig.", "unsigned.nsec3.rig.", "unsigned.bogus.rig."}

// rdata is RDATA in presentation form for every type that dns.TypeToRR lists
// and that has one. Types that are missing are made by craft, or are in unpublishable.
var rdata = map[uint16]string{
	dns.TypeA:          "192.0.2.1",
	dns.TypeAAAA:       "2001:db8::1",
	dns.TypeAFSDB:      "1 afs.plain.rig.",
	dns.TypeAMTRELAY:   "10 0 3 relay.plain.rig.",
	dns.TypeAPL:        "1:192.0.2.0/24 !1:192.0.2.64/28 2:2001:db8::/32",
	dns.TypeAVC:        `"app-name:rig" "app-class:OAM"`,
	dns.TypeCAA:        `0 issue "ca.rig; policy=ev"`,
	dns.TypeCDNSKEY:    "257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
	dns.TypeCDS:        "3613 15 2 3AA5AB37EFCE57F737FC1627013FEE07BDF241BD10F3B1964AB55C78E79A304B",
	dns.TypeCERT:       "PKIX 12345 8 MTIzNDU2Nzg5MGFiY2RlZg==",
	dns.TypeCNAME:      "a.plain.rig.",
	dns.TypeCSYNC:      "66 3 A NS AAAA",
	dns.TypeDHCID:      "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=",
	dns.TypeDLV:        "3613 15 2 3AA5AB37EFCE57F737FC1627013FEE07BDF241BD10F3B1964AB55C78E79A304B",
	dns.TypeDNAME:      "plain.rig.",
	dns.TypeDNSKEY:     "257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
	dns.TypeDS:         "3613 15 2 3AA5AB37EFCE57F737FC1627013FEE07BDF241BD10F3B1964AB55C78E79A304B",
	dns.TypeEID:        "E32C6F78163A9348",
	dns.TypeEUI48:      "00-00-5e-00-53-2a",
	dns.TypeEUI64:      "00-00-5e-ef-10-00-00-2a",
	dns.TypeGID:        "1000",
	dns.TypeGPOS:       "-32.6882 116.8652 10.0",
	dns.TypeHINFO:      `"PDP-11/70" "UNIX"`,
	dns.TypeHIP:        "2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p9+LrV4e19WzK00+CI6zBCQTdtWsuxKbWIy87UOoJTwkUs7lBu+Upr1gsNrut79ryra+bSRGQb1slImA8YVJyuIDsj7kwzG7jnERNqnWxZ48AWkskmdHaVDP4BcelrTI3rMXdXF5D rvs.plain.rig.",
	dns.TypeHTTPS:      `1 . alpn="h2,h3" port=8443 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1`,
	dns.TypeIPSECKEY:   "10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
	dns.TypeISDN:       `"150862028003217" "004"`,
	dns.TypeKEY:        "256 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
	dns.TypeKX:         "10 kx.plain.rig.",
	dns.TypeL32:        "10 10.1.2.0",
	dns.TypeL64:        "10 2001:0DB8:1140:1000",
	dns.TypeLOC:        "52 22 23.000 N 4 53 32.000 E -2.00m 1m 10000m 10m",
	dns.TypeLP:         "10 l64.plain.rig.",
	dns.TypeMB:         "mb.plain.rig.",
	dns.TypeMD:         "md.plain.rig.",
	dns.TypeMF:         "mf.plain.rig.",
	dns.TypeMG:         "mg.plain.rig.",
	dns.TypeMINFO:      "rm.plain.rig. em.plain.rig.",
	dns.TypeMR:         "mr.plain.rig.",
	dns.TypeMX:         "10 a.plain.rig.",
	dns.TypeNAPTR:      `100 50 "s" "z3950+I2L+I2C" "" _z3950._tcp.plain.rig.`,
	dns.TypeNID:        "10 0014:4fff:ff20:ee64",
	dns.TypeNIMLOC:     "32251030A0",
	dns.TypeNINFO:      `"first" "second"`,
	dns.TypeNS:         "ns1.child.plain.rig.",
	dns.TypeNSAPPTR:    "nsap.plain.rig.",
	dns.TypeNSEC:       "b.types.rig. A MX RRSIG NSEC TYPE1234",
	dns.TypeNSEC3:      "1 0 2 AABBCCDD 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR A RRSIG",
	dns.TypeNSEC3PARAM: "1 0 2 AABBCCDD",
	dns.TypeNXT:        "b.types.rig. A MX SIG NXT",
	dns.TypeOPENPGPKEY: "mQINBFit2jsBEADrbl5vjVxYeAE0g0IDYCBpHirv1Sjlqxx5gjtPhb2YhvyDMXjq",
	dns.TypePTR:        "a.plain.rig.",
	dns.TypePX:         "10 map822.plain.rig. mapx400.plain.rig.",
	dns.TypeRESINFO:    `"qnamemin" "exterr=15,16,17" "infourl=https://resolver.rig"`,
	dns.TypeRKEY:       "0 255 1 cmlnLXJrZXk=",
	dns.TypeRP:         "admin.plain.rig. txt.plain.rig.",
	dns.TypeRRSIG:      "A 15 3 3600 20380119031407 20200101000000 3613 types.rig. WxGBqL1WYEgcSXfc4nEy1tXG4oj5eFYZ2VMGHI8rsIEABVbfYE2EBgUYV1zoHTzLp3pdMjM0vTfB5xHTrhrWAw==",
	dns.TypeRT:         "10 rt.plain.rig.",
	dns.TypeSIG:        "A 15 3 3600 20380119031407 20200101000000 3613 types.rig. WxGBqL1WYEgcSXfc4nEy1tXG4oj5eFYZ2VMGHI8rsIEABVbfYE2EBgUYV1zoHTzLp3pdMjM0vTfB5xHTrhrWAw==",
	dns.TypeSMIMEA:     "3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
	dns.TypeSOA:        "ns.rig. hostmaster.rig. 1 7200 3600 1209600 600",
	dns.TypeSPF:        `"v=spf1 -all"`,
	dns.TypeSRV:        "10 20 853 a.plain.rig.",
	dns.TypeSSHFP:      "4 2 123456789abcdef67890123456789abcdef67890123456789abcdef123456789",
	dns.TypeSVCB:       `16 foo.plain.rig. alpn="dot" port=853 ipv4hint=192.0.2.1`,
	dns.TypeTA:         "3613 15 2 3AA5AB37EFCE57F737FC1627013FEE07BDF241BD10F3B1964AB55C78E79A304B",
	dns.TypeTALINK:     "prev.plain.rig. next.plain.rig.",
	dns.TypeTLSA:       "3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971",
	dns.TypeTXT:        `"plain" "with \"quotes\" and \\ and \195\169 and \000" ""`,
	dns.TypeUID:        "1000",
	dns.TypeUINFO:      `"rig user"`,
	dns.TypeURI:        `10 1 "https://plain.rig/path?query#fragment"`,
	dns.TypeX25:        "311061700956",
	dns.TypeZONEMD:     "1 1 1 c68090d90a7aed716bc459f9340e3d7c1370d4d24b7e2fc3a1ddc0b9a87153b9a9713b3c9ae5cc27777f98b8e730044c",
}

// unpublishable says why a type that miekg/dns can make is not in the zone.
var unpublishable = map[uint16]string{
	dns.TypeANY:    "a QTYPE (RFC 1035, section 3.2.3); asked for in plain.rig.",
	dns.TypeOPT:    "a pseudo-record of the message itself (RFC 6891, section 6.1.1)",
	dns.TypeTSIG:   "a meta-record of the message itself (RFC 8945, section 4.2)",
	dns.TypeTKEY:   "a meta-record of the message itself (RFC 2930, section 2)",
	dns.TypeNXNAME: "a meta-type, only ever in a bitmap (RFC 9824, section 3.4)",
	dns.TypeSOA:    "stands at the apex of every zone; asked for there",
}

// craft makes records that have no presentation form.
func craft(rrtype uint16, owner string) dns.RR {
	hdr := dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: zoneTTL}
	if rrtype == dns.TypeNULL {
		return &dns.NULL{Hdr: hdr, Data: "any\x00thing"}
	}
	return nil
}

// typeOwner is where a type's record stands in types.rig.
func typeOwner(rrtype uint16) string {
	return strings.ToLower(dns.Type(rrtype).String()) + ".types.rig."
}

// publishedTypes lists the types of types.rig. in ascending order.
func publishedTypes() []uint16 {
	var types []uint16
	for rrtype := range dns.TypeToRR {
		if unpublishable[rrtype] == "" {
			types = append(types, rrtype)
		}
	}
	slices.Sort(types)
	return types
}

// generic renders rr in RFC 3597 form, which every authoritative server takes
// for every type, with its usual presentation as a comment.
func generic(t *testing.T, rr dns.RR) string {
	t.Helper()
	buf := make([]byte, dns.MaxMsgSize)
	end, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		t.Fatalf("packing %v: %v", rr, err)
	}
	ownerLen, err := dns.PackDomainName(rr.Header().Name, make([]byte, 256), 0, nil, false)
	if err != nil {
		t.Fatalf("packing %q: %v", rr.Header().Name, err)
	}
	data := buf[ownerLen+10 : end]
	comment := strings.ReplaceAll(strings.TrimPrefix(rr.String(), rr.Header().String()), "\n", " ")
	return fmt.Sprintf("%s %d IN TYPE%d \\# %d %s ; %s\n", rr.Header().Name, rr.Header().Ttl,
		rr.Header().Rrtype, len(data), hex.EncodeToString(data), comment)
}

// typesZone writes types.rig.
func typesZone(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(zoneHead("types.rig."))
	for _, rrtype := range publishedTypes() {
		owner := typeOwner(rrtype)
		rr := craft(rrtype, owner)
		if rr == nil {
			if rdata[rrtype] == "" {
				t.Fatalf("no RDATA for %v: miekg/dns has learnt a type that the rig does not know", dns.Type(rrtype))
			}
			var err error
			rr, err = dns.NewRR(fmt.Sprintf("%s %d IN %s %s", owner, zoneTTL, dns.Type(rrtype), rdata[rrtype]))
			if err != nil {
				t.Fatalf("making a %v: %v", dns.Type(rrtype), err)
			}
		}
		b.WriteString(generic(t, rr))
	}
	return b.String()
}

func zoneHead(origin string) string {
	return fmt.Sprintf("$ORIGIN %s\n$TTL %d\n@ IN SOA ns.rig. hostmaster.rig. 1 7200 3600 1209600 600\n@ IN NS ns.rig.\n", origin, zoneTTL)
}

// plainZone writes plain.rig., a name for each shape of answer.
func plainZone() string {
	var b strings.Builder
	b.WriteString(zoneHead("plain.rig."))
	b.WriteString(`a            A 192.0.2.1
a            AAAA 2001:db8::1
many         A 192.0.2.1
many         A 192.0.2.3
many         A 192.0.2.2
chain1       CNAME chain2
chain2       CNAME chain3
chain3       CNAME chain4.types.rig.
chain5       CNAME a
dangling     CNAME nowhere
*.wild       A 192.0.2.7
*.wild       TXT "from a wildcard"
*.wildcname  CNAME a
ent.empty    A 192.0.2.8
zero     0   A 192.0.2.9
unknown      TYPE65280 \# 5 0102030405
mail         MX 10 a
mail         MX 20 many
_dns._tcp    SRV 0 0 853 a
alias        HTTPS 0 a
below        DNAME a.types.rig.
Mixed        TXT "An owner in Mixed case"
\000odd\.\"\032\255 TXT "an owner of odd octets"
`)
	fmt.Fprintf(&b, "%s TXT \"a label of 63 octets\"\n", strings.Repeat("l", 63))
	fmt.Fprintf(&b, "%s TXT \"a name of 255 octets\"\n", longName())
	for i := range 20 {
		fmt.Fprintf(&b, "big TXT \"%03d %s\"\n", i, strings.Repeat("x", 245))
	}
	for i := range 70 {
		fmt.Fprintf(&b, "medium A 198.51.100.%d\n", i+1)
	}
	for i := range 13 {
		fmt.Fprintf(&b, "child NS ns%d.child\nns%d.child A %s\nns%d.child AAAA %s\n", i+1, i+1, secondServer, i+1, secondServerIPv6)
	}
	return b.String()
}

// longName is a name below plain.rig. that fills all 255 octets of a QNAME.
func longName() string {
	// 11 octets are plain.rig. itself, with its root; 244 are left.
	labels := []string{strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63), strings.Repeat("d", 51)}
	return strings.Join(labels, ".") + ".plain.rig."
}

// childZone is a zone on the second server that the first one delegates.
func childZone(origin string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ORIGIN %s\n$TTL %d\n", origin, zoneTTL)
	b.WriteString("@ SOA ns1.child.plain.rig. hostmaster.rig. 1 7200 3600 1209600 600\nwww A 192.0.2.33\n")
	if origin != "child.plain.rig." {
		b.WriteString("x A 192.0.2.34\n@ NS ns1.child.plain.rig.\n")
		return b.String()
	}
	for i := range 13 {
		fmt.Fprintf(&b, "@ NS ns%d\nns%d A %s\nns%d AAAA %s\n", i+1, i+1, secondServer, i+1, secondServerIPv6)
	}
	return b.String()
}

func signableZone(origin string) string {
	return zoneHead(origin) + `a       A 192.0.2.1
a       AAAA 2001:db8::1
b       TXT "signed text"
chain   CNAME a
out     CNAME a.plain.rig.
*.wild  A 192.0.2.7
mail    MX 10 a
zero 0  A 192.0.2.9
unknown TYPE65280 \# 5 0102030405
unsigned NS ns1.child.plain.rig.
`
}

func parentZones() map[string]string {
	rig := zoneHead("rig.") + "ns A " + firstServer + "\n"
	for _, zone := range []string{"types", "plain", "signed", "nsec3", "bogus"} {
		rig += zone + " NS ns\n"
	}
	return map[string]string{
		".":    zoneHead(".") + "rig. NS ns.rig.\nns.rig. A " + firstServer + "\n",
		"rig.": rig,
	}
}

// zones writes the zone files of both servers into dir and returns the names
// of the zones on the first. Trust anchors are beside them, as NAME.anchor.
func zones(t *testing.T, dir string) []string {
	t.Helper()
	files := parentZones()
	files["types.rig."] = typesZone(t)
	files["plain.rig."] = plainZone()
	names := []string{".", "rig.", "types.rig.", "plain.rig."}
	for name, text := range files {
		write(t, filepath.Join(dir, zoneFile(name)), text)
	}
	for _, name := range delegated {
		write(t, filepath.Join(dir, zoneFile(name)), childZone(name))
	}
	for _, name := range []string{"signed.rig.", "nsec3.rig.", "bogus.rig."} {
		names = append(names, name)
		write(t, filepath.Join(dir, zoneFile(name)), signableZone(name))
		sign(t, dir, name)
	}
	return names
}

// sign signs a zone in place with ldns. bogus.rig. gets the anchor of a key that signed nothing.
func sign(t *testing.T, dir, name string) {
	t.Helper()
	keygen := func() string {
		return strings.TrimSpace(command(t, dir, "ldns-keygen", "-a", "ECDSAP256SHA256", "-k", name))
	}
	key := keygen()
	anchor := key
	if name == "bogus.rig." {
		anchor = keygen()
	}
	args := []string{"-f", zoneFile(name), "-e", "20380101000000", "-i", "20200101000000"}
	if name == "nsec3.rig." {
		args = append(args, "-n", "-t", "0", "-s", "AABBCCDD")
	}
	command(t, dir, "ldns-signzone", append(args, zoneFile(name), key)...)
	public, err := os.ReadFile(filepath.Join(dir, anchor+".key"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+"anchor"), string(public))
}

func zoneFile(name string) string { return "zone." + name }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command runs a tool in dir and returns its standard output.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("running %s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}
