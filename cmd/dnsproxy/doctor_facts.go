package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"dnsproxy/internal/config"
	"dnsproxy/internal/control"
	"dnsproxy/internal/doctor"
)

// Whom the doctor asks has this long to answer.
const (
	systemdPatience = 3 * time.Second
	daemonPatience  = 5 * time.Second
	lookupPatience  = 2 * time.Second
)

// hostAt gathers what is not in files. Under another root than "/" that is nothing.
func hostAt(root string) doctor.Host {
	h := doctor.Host{Root: filepath.Clean(root)}
	if h.Root == "/" {
		h.Interfaces, h.Units, h.Clock = interfaces(), units(), doctor.ReadClock()
	}
	return h
}

// interfaces returns the host's interfaces with their addresses, as far as they are seen.
func interfaces() (all []doctor.Interface) {
	list, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range list {
		one := doctor.Interface{Name: i.Name}
		addrs, _ := i.Addrs() // none, if the interface went away
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				one.Addresses = append(one.Addresses, p)
			}
		}
		all = append(all, one)
	}
	return all
}

// units asks systemd, if it is what was booted (sd_booted(3)).
func units() doctor.Units {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), systemdPatience)
	defer cancel()
	args := append([]string{"show", "--no-pager", "--property=" + strings.Join(doctor.UnitProperties(), ",")}, doctor.UnitNames()...)
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	text, err := cmd.Output()
	if err != nil {
		return nil
	}
	return doctor.ParseUnits(string(text))
}

// patient gathers what is known of dnsproxy itself. Without a file, the daemon's is meant.
func patient(file, socket, root string, units doctor.Units) doctor.Daemon {
	d := doctor.Daemon{Socket: socket}
	switch err := unix.Access(socket, unix.W_OK); {
	case errors.Is(err, unix.ENOENT):
		d.Reach = doctor.Absent
	case errors.Is(err, unix.EACCES):
		d.Reach = doctor.Forbidden
	}
	d.Status, d.Silent = statusOf(socket, units)
	switch {
	case file != "":
		d.File = file
	case d.Status != nil && filepath.IsAbs(d.Status.Config.File):
		d.File = d.Status.Config.File
	default:
		d.File = defaultConfig
	}
	if info, err := os.Stat(d.File); err == nil {
		d.Modified = info.ModTime()
	}
	cfg, err := config.Load(d.File)
	if err != nil {
		d.Fault, d.Listen = err, config.DefaultListen()
		return d
	}
	d.Config, d.Listen = facts(cfg), cfg.Listen
	if cfg.Forwarder.SpecialNames && filepath.Clean(root) == "/" {
		d.Lookup = lookUpLocalhost
	}
	return d
}

// statusOf asks the daemon, unless that would start it: its socket is systemd's.
func statusOf(socket string, units doctor.Units) (*control.Status, error) {
	if state := units["dnsproxy.service"].Active; socket == control.Path && (state == "inactive" || state == "failed") {
		return nil, errors.New("the daemon does not run; \"systemctl start dnsproxy\"")
	}
	ctx, cancel := context.WithTimeout(context.Background(), daemonPatience)
	defer cancel()
	s, err := askStatus(ctx, socket)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the daemon at %s does not answer within %v; \"systemctl status dnsproxy\" may tell why", socket, daemonPatience)
	case err != nil:
		return nil, err
	}
	return s, nil
}

func facts(cfg *config.Config) *doctor.Config {
	c := &doctor.Config{Warnings: cfg.Warnings, Allow: cfg.Frontend.Allow, Sandbox: string(cfg.Sandbox)}
	for _, u := range cfg.Upstreams {
		for _, e := range u.Endpoints {
			c.Upstreams = append(c.Upstreams, doctor.Upstream{Name: u.Name, Addr: e.Addr})
		}
	}
	return c
}

// lookUpLocalhost asks a nameserver for the one name that dnsproxy tells to nobody (RFC 6761, section 6.3).
func lookUpLocalhost(server netip.AddrPort) error {
	q := new(dns.Msg)
	q.SetQuestion("localhost.", dns.TypeA)
	for _, transport := range []string{"udp", "tcp"} {
		client := dns.Client{Net: transport, Timeout: lookupPatience}
		answer, _, err := client.Exchange(q, server.String())
		switch {
		case err != nil:
			return err
		case answer.Rcode != dns.RcodeSuccess:
			return fmt.Errorf("localhost is answered %s over %s", dns.RcodeToString[answer.Rcode], strings.ToUpper(transport))
		}
	}
	return nil
}
