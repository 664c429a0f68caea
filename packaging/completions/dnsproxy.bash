# bash completion for dnsproxy(8)

# _dnsproxy_upstreams PROGRAM KEY WORD...: the texts that the upstreams of the configuration
# have for that key. The words are those of the command line; one may name the configuration.
_dnsproxy_upstreams() {
	local program=$1 key=$2 config=() before=
	shift 2
	while [[ $# -gt 0 ]]; do
		case $before$1 in
		--config=*) config=("$1") ;;
		--config\ *) config=("--config=$1") ;;
		esac
		before=
		if [[ $1 == --config ]]; then before='--config '; fi
		shift
	done
	"$program" check "${config[@]}" 2>/dev/null | awk -F '"' -v key="$key" '
		/^\[/ { table = $0 }
		table == "[[upstream]]" && index($0, key " = ") == 1 {
			for (i = 2; i < NF; i += 2) {
				if (sub(/:853$/, "", $i)) gsub(/[][]/, "", $i)
				if ($i != "" && !seen[$i]++) print $i
			}
		}'
}

_dnsproxy() {
	local line=${COMP_LINE:0:COMP_POINT} cur option='' value='' given='' operands=-1 breaks='' kept='' i
	local commands options='' words all=()

	# bash ends words at "=" and ":"; here they end at spaces only.
	read -ra words <<<"$line"
	cur=${line##*[[:space:]]}
	if [[ -n $cur ]]; then unset 'words[-1]'; fi

	commands='serve check reload status flush explain probe doctor demo version help'
	case ${words[1]-} in
	serve) options='--config= --listen= --help' ;;
	check) options='--config= --quiet --help' ;;
	reload) options='--quiet --config= --socket= --pid= --help' ;;
	status) options='--watch --json --socket= --help' ;;
	flush) options='--subtree --json --socket= --help' ;;
	explain) options='--dnssec --json --socket= --help' ;;
	probe) options='--config= --json --timeout= --help' ;;
	doctor) options='--json --config= --socket= --root= --help' ;;
	demo) options='--listen= --help' ;;
	version) options='--help' ;;
	esac

	# Which option's value is wanted, and how many operands stand before it.
	for i in "${words[@]:1}"; do
		if [[ -n $option ]]; then
			option=
		elif [[ $i == --* && " $options " == *" $i= "* ]]; then
			option=$i
		elif [[ $i != -* ]]; then
			operands=$((operands + 1))
		fi
	done
	value=$cur
	if [[ -z $option && $cur == --*=* ]]; then
		option=${cur%%=*} value=${cur#*=} given=${cur%%=*}=
	fi

	case $option in
	--config)
		compopt -o filenames 2>/dev/null
		mapfile -t all < <(compgen -f -X '!*.toml' -- "$value"; compgen -d -- "$value")
		;;
	--socket)
		compopt -o filenames 2>/dev/null
		mapfile -t all < <(compgen -f -- "$value")
		;;
	--root)
		compopt -o filenames 2>/dev/null
		mapfile -t all < <(compgen -d -- "$value")
		;;
	--listen) all=(127.0.0.1:5353 '[::1]:5353') ;;
	--pid) mapfile -t all < <(pidof dnsproxy | tr ' ' '\n') ;;
	--timeout) all=(1s 5s 10s) ;;
	'')
		if [[ ${#words[@]} -eq 1 ]]; then
			read -ra all <<<"$commands"
		elif [[ $cur == -* ]]; then
			read -ra all <<<"$options"
		else
			case ${words[1]}:$operands in
			probe:0) mapfile -t all < <(_dnsproxy_upstreams "$1" addresses "${words[@]}") ;;
			probe:1) mapfile -t all < <(_dnsproxy_upstreams "$1" server_name "${words[@]}") ;;
			explain:1) all=(A AAAA ANY CAA CNAME DNSKEY DS HTTPS MX NAPTR NS PTR SOA SRV SSHFP SVCB TLSA TXT) ;;
			*) read -ra all <<<"$options" ;;
			esac
		fi
		;;
	esac

	# What stands before the last end of a word, as bash sees them, stays.
	for i in = :; do
		if [[ $COMP_WORDBREAKS == *$i* ]]; then breaks+=$i; fi
	done
	if [[ -n $breaks ]]; then kept=${cur%"${cur##*["$breaks"]}"}; fi
	COMPREPLY=()
	for i in "${all[@]}"; do
		if [[ $given$i != "$cur"* ]]; then continue; fi
		if [[ $i == --*= ]]; then compopt -o nospace 2>/dev/null; fi
		i=$given$i
		COMPREPLY+=("${i#"$kept"}")
	done
}

complete -F _dnsproxy dnsproxy
