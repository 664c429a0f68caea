//go:build servers

package main_test

import "testing"

func (r *rig) testDig(t *testing.T, up upstreamServer) {}
func (r *rig) testClients(t *testing.T)                {}
func (r *rig) testRefused(t *testing.T)                {}
func (r *rig) testClientHello(t *testing.T)            {}
func (r *rig) testReloadUnderLoad(t *testing.T)        {}
func (r *rig) testRestartUnderLoad(t *testing.T)       {}
func (r *rig) testManyTCPClients(t *testing.T)         {}
