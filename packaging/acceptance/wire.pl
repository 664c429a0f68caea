#!/usr/bin/perl
# Judges a capture of the cable to the upstreams (tcpdump -w, Ethernet): everything on
# it must be TCP to or from port 853, and every byte of that TLS 1.3. Neighbour discovery and ARP, which
# find the other end of the cable, do not count. Prints the figures, and exits 1 if anything else is there.
use strict;
use warnings;

open my $in, '<:raw', $ARGV[0] or die "opening $ARGV[0]: $!\n";
read($in, my $head, 24);
my $little = unpack('V', $head) == 0xa1b2c3d4;
die "not a capture\n" unless $little || unpack('N', $head) == 0xa1b2c3d4;

my (%flow, $packets, @odd);
while (read($in, my $h, 16) == 16) {
	my $len = (unpack($little ? 'VVVV' : 'NNNN', $h))[2];
	read($in, my $frame, $len);
	my $type = unpack 'n', substr $frame, 12, 2;
	my $ip = substr $frame, 14;
	my ($proto, $seg, $src, $dst);
	next if $type == 0x0806;
	if ($type == 0x0800) {
		my $ihl = (ord($ip) & 15) * 4;
		$proto = ord substr $ip, 9, 1;
		$seg = substr $ip, $ihl, unpack('n', substr $ip, 2, 2) - $ihl;
		($src, $dst) = map { join '.', unpack 'C4', substr $ip, $_, 4 } 12, 16;
	} elsif ($type == 0x86dd) {
		$proto = ord substr $ip, 6, 1;
		$seg = substr $ip, 40, unpack 'n', substr $ip, 4, 2;
		($src, $dst) = map { join ':', unpack '(H4)8', substr $ip, $_, 16 } 8, 24;
		next if $proto == 58; # ICMPv6
		next if $proto == 0 && ord($seg) == 58; # the same, with a hop-by-hop option: multicast listeners
	} else {
		push @odd, sprintf 'Ethernet type %04x', $type;
		next;
	}
	$packets++;
	my ($sport, $dport) = unpack 'nn', $seg;
	if ($proto != 6 || ($sport != 853 && $dport != 853)) {
		push @odd, "protocol $proto from $src port $sport to $dst port $dport";
		next;
	}
	my ($seq, $flags) = (unpack('N', substr $seg, 4, 4), ord substr $seg, 13, 1);
	my $data = substr $seg, (ord(substr $seg, 12, 1) >> 4) * 4;
	my $f = $flow{"$src,$sport,$dst,$dport"} ||= { upstream => $sport == 853 };
	$f->{next} = $seq + 1 & 0xffffffff, $f->{whole} = 1 if $flags & 2; # SYN
	$f->{held}{$seq} = $data if length $data && $f->{whole};
	while ($f->{whole} && defined(my $d = delete $f->{held}{$f->{next}})) {
		$f->{text} .= $d;
		$f->{next} = $f->{next} + length($d) & 0xffffffff;
	}
}

my ($hellos, $records) = (0, 0);
for my $name (sort keys %flow) {
	my ($text, $n) = ($flow{$name}{text} // '', 0);
	my $handshaken;
	while (length $text >= 5) {
		my ($kind, $version, $len) = unpack 'Cnn', $text;
		last if length $text < 5 + $len; # the capture ended first
		my $body = substr $text, 5, $len;
		$text = substr $text, 5 + $len;
		$n++, $records++;
		if ($kind == 22 && !$handshaken) {
			# ServerHello (RFC 8446, section 4.1.3): its supported_versions says 1.3.
			my $retry = 0;
			if ($flow{$name}{upstream}) {
				my $sid = ord substr $body, 38, 1;
				my $ext = substr $body, 39 + $sid + 2 + 1 + 2;
				push @odd, "$name: the ServerHello is not TLS 1.3's" unless ord($body) == 2 && $ext =~ /\x00\x2b\x00\x02\x03\x04/s;
				$retry = substr($body, 6, 32) eq pack 'H*', 'cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c';
			} else {
				push @odd, "$name: no ClientHello" unless ord($body) == 1;
				$hellos++;
				$retry = $text =~ /^\x14/s || $text =~ /^\x16/s;
			}
			$handshaken = 1 unless $retry;
			next;
		}
		next if $kind == 20; # change_cipher_spec, for middleboxes
		push @odd, "$name: record $n is of type $kind, in clear" unless $kind == 23;
	}
}
printf "%d packets, %d sessions, %d TLS records, %d oddities\n", $packets, $hellos, $records, scalar @odd;
print "$_\n" for @odd > 20 ? @odd[0 .. 19] : @odd;
exit(@odd || !$hellos ? 1 : 0);
