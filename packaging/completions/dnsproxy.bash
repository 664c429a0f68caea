# bash completion for dnsproxy(8)

_dnsproxy() {
	local cur=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]-} option options i

	# bash takes "=" for a word of its own.
	if [[ $cur == = ]]; then
		option=${COMP_WORDS[COMP_CWORD - 1]} cur=
	elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
		option=${COMP_WORDS[COMP_CWORD - 2]}
	else
		option=${COMP_WORDS[COMP_CWORD - 1]}
	fi

	if [[ $COMP_CWORD -eq 1 ]]; then
		mapfile -t COMPREPLY < <(compgen -W 'serve check reload probe demo version help' -- "$cur")
		return
	fi
	case $option in
	--config)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -X '!*.toml' -- "$cur"; compgen -d -- "$cur")
		return
		;;
	--listen)
		mapfile -t COMPREPLY < <(compgen -W '127.0.0.1:5353 [::1]:5353' -- "$cur")
		return
		;;
	--pid)
		mapfile -t COMPREPLY < <(compgen -W "$(pidof dnsproxy)" -- "$cur")
		return
		;;
	esac
	case $command in
	serve) options='--config= --listen= --help' ;;
	demo) options='--listen= --help' ;;
	check) options='--config= --quiet --help' ;;
	reload) options='--config= --pid= --help' ;;
	probe) options='--config= --json --timeout= --help' ;;
	*) options=--help ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
	for i in "${COMPREPLY[@]}"; do
		[[ $i != *= ]] || compopt -o nospace 2>/dev/null
	done
}

complete -F _dnsproxy dnsproxy
