//! Every sentence of the pages, in both languages side by side. Other than the sentences, only lengths of time are
//! put into words here.
//!
//! French puts a no-break space before `: ; ? !` (a narrow one, except before the colon) and inside quotes; a test
//! checks it.

use std::time::Duration;

use super::lang::Lang;

/// Declares [`Text`] and its two values from one table, so that a sentence without its translation does not compile.
macro_rules! texts {
    ($($name:ident: $fr:literal, $en:literal;)+) => {
        /// The sentences of one language.
        pub(super) struct Text {
            $(pub(super) $name: &'static str,)+
        }

        /// The French sentences.
        pub(super) const FR: Text = Text { $($name: $fr,)+ };

        /// The English sentences.
        pub(super) const EN: Text = Text { $($name: $en,)+ };

        #[cfg(test)]
        impl Text {
            /// Each name with its French and its English sentence.
            pub(super) const TABLE: &'static [(&'static str, &'static str, &'static str)] =
                &[$((stringify!($name), FR.$name, EN.$name),)+];
        }
    };
}

impl Text {
    pub(super) fn of(lang: Lang) -> &'static Self {
        match lang {
            Lang::Fr => &FR,
            Lang::En => &EN,
        }
    }
}

texts! {
    // On every page.
    site_name: "Relier un appareil à Enedis", "Link a device to Enedis";
    footer: "Ce site n’est pas celui d’Enedis. Il ne vous demande jamais de mot de passe.",
        "This is not the Enedis site. It never asks you for a password.";
    other_language: "English", "Français";
    contact: "Contact", "Contact us";
    legal_notice: "Mentions légales", "Legal notice";
    error_prefix: "Erreur\u{a0}: ", "Error: ";

    // Used by several pages.
    continue_to_enedis: "Continuer vers Enedis", "Continue to Enedis";
    next_step: "En continuant, vous passerez sur le site d’Enedis, pour vous y connecter et donner votre accord. Son adresse\u{a0}: ",
        "If you continue, you will go to the Enedis site, to sign in there and give your consent. Its address: ";
    enter_a_code: "Saisir un code", "Enter a code";
    try_again: "Réessayer", "Try again";
    reload: "Actualiser la page", "Reload the page";
    enedis_said: "Réponse d’Enedis\u{a0}: ", "Enedis answered: ";
    start_again: "Relancez la demande depuis votre appareil\u{a0}: il affichera un nouveau lien et un nouveau code.",
        "Start again from your device: it will show a new link and a new code.";
    withdraw: "Vous pouvez retirer votre accord à tout moment depuis votre ", "You can withdraw your consent at any time in your ";
    enedis_account: "compte Enedis", "Enedis account";
    wait_before: "Attendez ", "Wait ";
    wait_after: ", puis réessayez.", ", then try again.";

    // Entering the code.
    enter_title: "Saisissez le code de votre appareil", "Enter the code from your device";
    enter_intro: "Pour relier votre appareil (une box domotique, par exemple) à votre compteur Linky, recopiez ici le code qu’il affiche.",
        "To link your device (a home automation box, for instance) to your Linky meter, type here the code that it shows.";
    enter_label: "Code affiché par votre appareil", "Code shown by your device";
    enter_hint: "Huit lettres, comme XXXX\u{2011}XXXX. Le tiret et les majuscules sont facultatifs.",
        "Eight letters, like XXXX\u{2011}XXXX. The dash and the capitals are optional.";
    enter_caution: "Quelqu’un d’autre vous a envoyé ce code\u{202f}? Arrêtez-vous là\u{a0}: vous lui donneriez accès à vos données.",
        "Did someone else send you this code? Stop here: you would give them access to your data.";
    enter_again: "Beaucoup de codes faux sont essayés en ce moment. Vérifiez le vôtre, puis continuez.",
        "Many wrong codes are being tried at the moment. Check yours, then continue.";
    enter_missing: "Saisissez le code affiché par votre appareil.", "Enter the code shown by your device.";
    enter_not_valid: "Ce code n’est pas valable, ou ne l’est plus. Vérifiez-le, ou relancez la demande depuis votre appareil pour en obtenir un nouveau.",
        "This code is not valid, or no longer is. Check it, or start again from your device to get a new one.";
    too_many_attempts: "Trop d’essais.", "Too many attempts.";

    // Confirming the code.
    confirm_title: "Laisser cet appareil lire votre compteur\u{202f}?", "Let this device read your meter?";
    confirm_client: "Application", "App";
    confirm_software: "Il dit de lui-même", "It says of itself";
    confirm_place: "Son réseau", "Its network";
    place_yours: "le même que vous", "the same as yours";
    place_elsewhere: "un autre que le vôtre, ", "another than yours, ";
    confirm_asked: "Demande faite", "Requested";
    confirm_expires: "Ce code expire dans ", "This code expires in ";
    confirm_question: "Votre appareil affiche-t-il bien ce code\u{202f}?", "Does your device show this same code?";
    confirm_enedis_down: "Enedis ne répond pas en ce moment\u{a0}: votre accord risque de ne pas aboutir. Mieux vaut attendre quelques minutes.",
        "Enedis is not responding at the moment: your consent may come to nothing. Better wait a few minutes.";
    confirm_other_screen: "Continuer sur un autre écran", "Continue on another screen";
    confirm_scan: "Visez cette image avec l’appareil photo de votre téléphone\u{a0}: il ouvrira cette même page. Rien n’est décidé tant que vous n’y avez pas répondu.",
        "Point the camera of your phone at this picture: it will open this same page. Nothing is decided until you have answered there.";
    confirm_qr: "Code QR du lien vers cette page", "QR code of the link to this page";
    confirm_caution: "Vous n’avez rien demandé\u{202f}? Refusez\u{a0}: quelqu’un en veut peut-être à vos données.",
        "Was it not you who asked? Say no: someone may be after your data.";
    confirm_yes: "Oui, continuer vers Enedis", "Yes, continue to Enedis";
    confirm_no: "Non, ce n’est pas moi", "No, this is not me";

    // Consent given.
    signed_in_title: "Votre accord est enregistré", "Your consent is recorded";
    signed_in_device: "Votre appareil recevra son accès dans quelques instants. Cette page vous le dira\u{a0}; vous pouvez aussi la fermer.",
        "Your device will get its access in a few moments. This page will tell you; you can also close it.";
    signed_in_delivered: "Votre appareil a reçu son accès.", "Your device has got its access.";
    signed_in_close: "Vous pouvez fermer cette page.", "You can close this page.";
    signed_in_meters: "Compteurs concernés", "Meters covered";
    meter_ending: "Point de livraison se terminant par ", "Delivery point ending in ";
    meter_numbered: "Point de livraison n°\u{a0}", "Delivery point no. ";
    asked_title: "Dernières questions sur ce compteur", "Last questions about this meter";
    asked_consumption_curve: "Consommation, pas à pas", "Consumption, step by step";
    asked_production_curve: "Production, pas à pas", "Production, step by step";
    asked_daily_consumption: "Consommation par jour", "Consumption by day";
    asked_daily_production: "Production par jour", "Production by day";
    asked_max_power: "Puissance maximale par jour", "Highest power by day";
    asked_contract: "Contrat", "Contract";
    colon: "\u{a0}: ", ": ";
    end_values: "Enedis a répondu", "Enedis answered";
    end_no_data: "Enedis n’a pas encore ces valeurs", "Enedis does not have these values yet";
    end_error: "Enedis ne peut pas répondre à cette question", "Enedis cannot answer this question";
    end_not_ready: "Enedis n’est pas encore prêt. C’est courant dans les jours qui suivent un accord, et cela passe tout seul", "Enedis is not ready yet. This is common in the days after a consent, and passes by itself";
    end_refused: "Enedis refuse, sans que l’on sache encore si l’accord tient\u{a0}; l’appareil redemandera", "Enedis refuses, and it is not known yet whether the consent stands; the device will ask again";
    end_withdrawn: "l’accord a été retiré chez Enedis", "the consent was withdrawn at Enedis";
    end_busy: "trop de demandes à Enedis\u{a0}; l’appareil redemandera", "too many questions to Enedis; the device will ask again";
    end_enedis_down: "Enedis ne répond pas\u{a0}; l’appareil redemandera", "Enedis is not responding; the device will ask again";
    end_our_trouble: "ce service n’a pas pu répondre\u{a0}; l’appareil redemandera", "this service could not answer; the device will ask again";
    others_title: "Autres appareils qui lisent ce compteur", "Other devices that read this meter";
    others_advice: "Vous n’en reconnaissez pas un, ou ne vous en servez plus\u{202f}? Retirez-lui l’accès\u{a0}: il cessera de lire vos données.",
        "One you do not know, or no longer use? Take its access away: it will stop reading your data.";
    others_unnamed: "Appareil", "Device";
    others_since: "Accès donné", "Access given";
    others_used: "Dernier passage", "Last came";
    others_never: "pas encore venu", "not yet";
    others_meters: "Compteurs lus", "Meters it reads";
    others_end: "Retirer l’accès", "Take its access away";

    // Consent refused.
    refused_title: "Vous avez refusé l’accès", "You refused access";
    refused_told: "Aucune donnée n’a été transmise. Votre appareil en est informé, et vous pouvez fermer cette page.",
        "No data was passed on. Your device is being told, and you can close this page.";
    refused_mistake: "C’était une erreur\u{202f}? Relancez la demande depuis votre appareil\u{a0}: il affichera un nouveau lien et un nouveau code.",
        "Was it a mistake? Start again from your device: it will show a new link and a new code.";

    // The request is somebody else's.
    not_mine_title: "Rien n’a été relié", "Nothing was linked";
    not_mine_told: "Vous n’avez rien autorisé. Ce code n’est plus valable, et vous pouvez fermer cette page.",
        "You have authorised nothing. This code is no longer valid, and you can close this page.";
    not_mine_again: "Si quelqu’un vous a envoyé ce lien, n’y donnez pas suite.",
        "If somebody sent you this link, do not follow it.";

    // Trouble at Enedis or here.
    enedis_unavailable_title: "Enedis ne répond pas", "Enedis is not responding";
    enedis_unavailable: "Le site d’Enedis ne répond pas en ce moment. Cela ne vient ni de vous, ni de votre appareil.",
        "The Enedis site is not responding at the moment. Neither you nor your device did anything wrong.";
    enedis_busy_title: "Enedis est très sollicité", "Enedis is very busy";
    enedis_busy: "Enedis reçoit trop de demandes en ce moment.", "Enedis is receiving too many requests at the moment.";
    enedis_rejected_title: "Enedis n’a pas accepté la demande", "Enedis did not accept the request";
    enedis_rejected: "La réponse d’Enedis ne permet pas de relier votre appareil. Aucune donnée n’a été transmise.",
        "With the answer from Enedis your device cannot be linked. No data was passed on.";
    enedis_failed_title: "Panne chez Enedis", "Failure at Enedis";
    enedis_failed: "Une erreur s’est produite chez Enedis. Cela ne vient ni de vous, ni de votre appareil, ni de ce service. Aucune donnée n’a été transmise.",
        "Something went wrong at Enedis. Neither you, nor your device, nor this service did anything wrong. No data was passed on.";
    unfinished_title: "La demande chez Enedis n’est pas terminée", "The request at Enedis is not finished";
    unfinished: "Le parcours chez Enedis s’est arrêté avant la fin. Aucun accord n’a été enregistré, et aucune donnée n’a été transmise.",
        "Your way through the Enedis site ended too early. No consent was recorded, and no data was passed on.";
    unfinished_advice: "Vérifiez dans votre compte Enedis que votre compteur y figure, puis réessayez et allez jusqu’au bout, sans revenir en arrière.",
        "Check in your Enedis account that your meter is listed there, then try again and go on to the end, without going back.";
    outdated_title: "Votre accord est arrivé trop tard", "Your consent came too late";
    outdated: "La réponse d’Enedis ne vaut que quelques minutes, et celle-ci n’est plus valable. Vous n’avez rien fait de mal\u{a0}: il suffit de recommencer.",
        "The answer from Enedis is good for a few minutes only, and this one no longer is. You did nothing wrong: just do it once more.";
    not_ready_title: "Enedis a besoin d’un peu de temps", "Enedis is not ready yet";
    not_ready: "Si vous venez de donner votre accord, il est bien enregistré chez Enedis, mais Enedis n’y donne pas encore suite. Cela arrive dans les jours qui suivent un accord.",
        "If you gave your consent just now, it is recorded at Enedis, but Enedis does not act on it yet. This happens in the days after a consent.";
    not_ready_advice: "Attendez quelques heures, puis relancez la demande depuis votre appareil. Si Enedis dit que ce compteur est déjà partagé, retirez d’abord ce partage dans votre compte Enedis.",
        "Wait a few hours, then start again from your device. If Enedis says that this meter is shared already, stop sharing it first in your Enedis account.";
    our_setup_title: "Ce service est mal réglé", "This service is not set up right";
    our_setup: "Enedis refuse les demandes de ce service, quelle que soit la personne. Cela ne vient ni de vous, ni de votre appareil, et recommencer n’y changerait rien.",
        "Enedis refuses the requests of this service, whoever makes them. Neither you nor your device did anything wrong, and to try again would change nothing.";
    our_setup_contact: "Prévenez la personne qui tient ce service, en lui donnant la réponse d’Enedis et l’heure.",
        "Tell whoever runs this service, with the answer from Enedis and the time.";
    our_setup_no_contact: "Prévenez la personne qui vous a indiqué ce service\u{a0}: elle seule peut le faire réparer.",
        "Tell whoever pointed you to this service: only they can have it mended.";
    contact_operator: "Prévenir le responsable", "Tell the operator";
    our_trouble_title: "Service momentanément indisponible", "Service unavailable for the moment";
    our_trouble: "Notre service ne peut pas traiter votre demande pour l’instant. Cela ne vient ni de vous, ni de votre appareil.",
        "Our service cannot handle your request right now. Neither you nor your device did anything wrong.";
    retry_in_minutes: "Réessayez dans quelques minutes.", "Try again in a few minutes.";
    retry_from_device: "Si le code a expiré, relancez la demande depuis votre appareil.",
        "If the code has expired, start again from your device.";

    // Problems with the request.
    bad_state_title: "Cette demande n’est plus valable", "This request is no longer valid";
    bad_state: "Elle a expiré, ou elle n’est pas connue de notre service.", "It has expired, or our service does not know it.";
    other_browser_title: "Navigateur différent", "Different browser";
    other_browser: "Le retour d’Enedis ne s’est pas fait dans le navigateur du départ, ou ce navigateur bloque les cookies. Par sécurité, la demande s’arrête ici.",
        "You came back from Enedis in another browser than the one you left from, or this browser blocks cookies. To keep you safe, the request stops here.";
    other_browser_advice: "Ouvrez de nouveau le lien affiché par votre appareil, acceptez les cookies, et faites toutes les étapes dans ce même navigateur.",
        "Open the link shown by your device again, allow cookies, and take all the steps in that same browser.";
    other_browser_stands: "Si vous avez donné votre accord chez Enedis, il y reste enregistré. Vous pouvez le retirer depuis votre compte Enedis.",
        "If you gave your consent at Enedis, it is still recorded there. You can withdraw it in your Enedis account.";
    no_cookies_title: "Cookies nécessaires", "Cookies needed";
    no_cookies: "Ce navigateur ne garde pas les cookies. Sans eux, rien ne montre que c’est bien vous qui revenez d’Enedis.",
        "This browser keeps no cookies. Without them nothing shows that it is you who comes back from Enedis.";
    no_cookies_advice: "Acceptez les cookies de ce site, ou prenez un autre navigateur, puis saisissez de nouveau le code.",
        "Allow the cookies of this site, or take another browser, then enter the code again.";
    missing_parameters_title: "Adresse incomplète", "Incomplete address";
    missing_parameters: "Il manque des informations dans l’adresse de cette page.", "Some information is missing from the address of this page.";
    malformed_return_title: "Réponse d’Enedis incompréhensible", "Answer from Enedis not understood";
    malformed_return: "Vous revenez d’Enedis, mais sa réponse n’a pas la forme attendue. Aucune donnée n’a été transmise.",
        "You came back from Enedis, but its answer does not have the expected form. No data was passed on.";
    already_used_title: "Demande déjà traitée", "Request already handled";
    already_used: "Cette demande a déjà reçu une réponse. Si votre appareil fonctionne, vous n’avez rien à faire.",
        "This request has already been answered. If your device works, there is nothing for you to do.";
    already_used_otherwise: "Sinon, relancez la demande depuis votre appareil\u{a0}: il affichera un nouveau lien et un nouveau code.",
        "Otherwise, start again from your device: it will show a new link and a new code.";
    in_progress_title: "Encore un instant", "One more moment";
    in_progress: "Votre accord est en cours d’enregistrement. Actualisez cette page dans quelques secondes.",
        "Your consent is being recorded. Reload this page in a few seconds.";
    not_listed_title: "Enedis enregistre votre accord", "Enedis is recording your consent";
    not_listed: "Votre accord est donné, mais Enedis ne nous dit pas encore de quel compteur il s’agit. Cela prend parfois quelques minutes.",
        "You have given your consent, but Enedis does not tell us yet which meter it is for. This sometimes takes a few minutes.";
    not_listed_wait: "Gardez cette page ouverte\u{a0}: elle s’actualise toute seule.",
        "Keep this page open: it reloads by itself.";
    not_fresh_title: "Ce compteur est déjà relié", "This meter is linked already";
    not_fresh: "Un appareil a déjà accès à ce compteur, et rien ne montre que cet accord vient d’être donné. Par sécurité, la demande s’arrête ici.",
        "A device has access to this meter already, and nothing shows that this consent was given just now. To keep you safe, the request stops here.";
    not_fresh_advice: "Pour relier un autre appareil, retirez d’abord le partage depuis votre compte Enedis, puis relancez la demande depuis votre appareil.",
        "To link another device, first stop sharing in your Enedis account, then start again from your device.";
    not_found_title: "Page introuvable", "Page not found";
    not_found: "Il n’y a rien à cette adresse. Vérifiez le lien affiché par votre appareil.",
        "There is nothing at this address. Check the link shown by your device.";
    method_not_allowed_title: "Action impossible ici", "Not possible here";
    method_not_allowed: "Cette adresse ne s’utilise pas de cette façon. Revenez au lien affiché par votre appareil.",
        "This address is not used in this way. Go back to the link shown by your device.";
    bad_request_title: "Demande incompréhensible", "Request not understood";
    bad_request: "L’adresse de cette page contient une erreur. Revenez au lien affiché par votre appareil.",
        "There is a mistake in the address of this page. Go back to the link shown by your device.";
    too_many_title: "Trop d’essais", "Too many attempts";
    too_many: "Trop d’essais ont été faits en peu de temps.", "Too many attempts were made in a short time.";

    // Whether it is Enedis or us.
    status_title: "État du service", "Service status";
    status_intro: "Ce que ce service voit d’Enedis et de lui-même en ce moment.", "What this service sees of Enedis and of itself at the moment.";
    status_ours: "Ce service", "This service";
    status_works: "fonctionne", "works";
    status_trouble: "en difficulté", "in trouble";
    status_tokens: "Enedis, connexion", "Enedis, sign-in";
    status_consents: "Enedis, accords", "Enedis, consents";
    status_data: "Enedis, mesures", "Enedis, readings";
    status_old_data: "Enedis, mesures (ancien accès)", "Enedis, readings (old access)";
    status_answers: "répond", "answers";
    status_not_asked: "pas encore interrogé", "not asked yet";
    status_fails: "échoue par moments, depuis ", "fails now and then, for ";
    status_silent: "ne répond pas, depuis ", "does not answer, for ";
    status_calls: "Demandes à Enedis cette heure-ci", "Questions to Enedis this hour";
    status_of: " sur ", " of ";
    status_days: "Derniers jours reçus d’Enedis", "Last days received from Enedis";
    status_days_hint: "À côté de chaque jour, quand ses premières valeurs sont arrivées ici, à l’heure de Paris.",
        "Beside each day, when its first values came here, in Paris time.";
    status_quota: "Enedis limite le nombre de demandes par heure\u{a0}; au-delà, les appareils attendent l’heure suivante.",
        "Enedis limits the number of questions an hour; beyond it, devices wait for the next hour.";

    // What is kept.
    privacy_title: "Données personnelles", "Personal data";
    privacy_intro: "Ce service relie votre appareil à Enedis. Voici tout ce qu’il garde de vous.",
        "This service links your device to Enedis. Here is all that it keeps of you.";
    privacy_request: "Le temps de la demande\u{a0}: le code de votre appareil, sous une forme illisible, le nom qu’il se donne et son adresse réseau.",
        "While the request lasts: the code of your device, in a form that cannot be read, the name that it gives itself and its network address.";
    privacy_meters: "Tant que votre appareil a accès à vos données\u{a0}: le numéro de vos compteurs, chiffré, la date de son dernier passage et son adresse réseau. L’accès dure au plus ",
        "As long as your device has access to your data: the numbers of your meters, encrypted, when it last came and its network address. Access lasts at most ";
    privacy_values: "Les mesures que votre appareil a demandées, chiffrées, pour ne pas les redemander à Enedis. Elles sont effacées quand plus aucun appareil n’a accès au compteur. Aussi, jusqu’au prochain redémarrage\u{a0}: ses douze dernières demandes et leur issue.",
        "The readings that your device asked for, encrypted, so as not to ask Enedis again. They are deleted when no device has access to the meter any more. Also, until the next restart: its last twelve questions and how they ended.";
    privacy_token: "L’accès donné par Enedis, chiffré, le temps que votre appareil vienne le chercher. Vos mesures vont d’Enedis à votre appareil, sans être gardées ici.",
        "The access given by Enedis, encrypted, until your device has fetched it. Your readings go from Enedis to your device, and are not kept here.";
    privacy_audit: "Pendant un an\u{a0}: un journal des accords, des refus et des retraits, avec l’adresse réseau, sans numéro de compteur.",
        "For a year: a record of consents, refusals and withdrawals, with the network address, without meter numbers.";
    privacy_cookies: "Dans votre navigateur\u{a0}: pendant un jour, un cookie qui montre que c’est bien vous qui revenez d’Enedis et un autre qui retient le code\u{a0}; pendant un an, la langue, si vous l’avez choisie.",
        "In your browser: for a day, a cookie that shows that it is you who comes back from Enedis and another that remembers the code; for a year, the language, if you chose it.";
    privacy_not: "Ce service ne connaît ni votre nom, ni votre adresse, ni votre mot de passe.",
        "This service knows neither your name, nor your address, nor your password.";

    // The first page.
    home_title: "Relier votre appareil à votre compteur Linky", "Link your device to your Linky meter";
    home_intro: "Certains appareils, comme les box domotiques, savent suivre la consommation d’un logement, mais n’ont pas de navigateur pour demander l’accord de leur propriétaire. Ce service permet de donner cet accord depuis votre téléphone ou votre ordinateur.",
        "Some devices, such as home automation boxes, can follow the electricity use of a home but have no browser to ask their owner for consent. With this service you give that consent from your phone or your computer.";
    home_how: "Comment faire", "How it works";
    home_step_device: "Lancez la demande sur votre appareil\u{a0}: il affiche un lien et un code.",
        "Start the request on your device: it shows a link and a code.";
    home_step_code: "Ouvrez le lien et vérifiez que le code est le même.", "Open the link and check that the code is the same.";
    home_step_enedis: "Connectez-vous chez Enedis et donnez votre accord. L’adresse d’Enedis\u{a0}: ",
        "Sign in at Enedis and give your consent. The address of Enedis: ";
    home_step_done: "Retournez à votre appareil\u{a0}: il reçoit son accès tout seul.",
        "Go back to your device: it gets its access by itself.";
    home_privacy: "Vos données", "Your data";
    home_privacy_password: "Votre mot de passe Enedis se saisit chez Enedis. Il ne passe jamais par ce site.",
        "You enter your Enedis password at Enedis. It never passes through this site.";
    home_privacy_measures: "Vos relevés vont à votre appareil. Si ce service les transmet, il les garde chiffrés, pour ne pas les redemander à Enedis.",
        "Your readings go to your device. If this service passes them on, it keeps them encrypted, so as not to ask Enedis again.";
    home_privacy_stored: "Les codes et les clés d’accès ne sont jamais conservés en clair.",
        "Codes and access keys are never stored in readable form.";
}

/// How long ago something happened: "à l’instant", "il y a 2 minutes". Rounded down.
pub(super) fn ago(lang: Lang, past: Duration) -> String {
    let (count, unit) = match past.as_secs() {
        0..30 => return one_of(lang, "à l’instant", "just now").to_owned(),
        30..60 => return one_of(lang, "il y a moins d’une minute", "less than a minute ago").to_owned(),
        secs @ 60..3600 => (secs / 60, Unit::Minute),
        secs @ 3600..86_400 => (secs / 3600, Unit::Hour),
        secs => (secs / 86_400, Unit::Day),
    };
    let amount = amount(lang, count, unit);
    match lang {
        Lang::Fr => format!("il y a {amount}"),
        Lang::En => format!("{amount} ago"),
    }
}

/// A life in whole days: "1095 jours".
pub(super) fn days(lang: Lang, life: Duration) -> String {
    amount(lang, life.as_secs() / 86_400, Unit::Day)
}

/// How long to wait: "12 secondes", "2 minutes". Rounded up, at least one second, so that who waits has waited enough.
pub(super) fn wait(lang: Lang, wait: Duration) -> String {
    let (count, unit) = match secs_up(wait) {
        secs @ 0..=90 => (secs, Unit::Second),
        secs @ 91..=5400 => (secs.div_ceil(60), Unit::Minute),
        secs => (secs.div_ceil(3600), Unit::Hour),
    };
    amount(lang, count, unit)
}

/// How long something lasts still, after "dans " or "in ": "4 minutes". Rounded down, so that nobody is promised more than there is.
pub(super) fn remaining(lang: Lang, left: Duration) -> String {
    match left.as_secs() {
        0..60 => one_of(lang, "moins d’une minute", "less than a minute").to_owned(),
        secs @ 60..7200 => amount(lang, secs / 60, Unit::Minute),
        secs => amount(lang, secs / 3600, Unit::Hour),
    }
}

/// Whole seconds, rounded up, at least one: what `Retry-After` says and what the page says.
pub(super) fn secs_up(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[derive(Clone, Copy)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

fn amount(lang: Lang, count: u64, unit: Unit) -> String {
    let name = match unit {
        Unit::Second => one_of(lang, "seconde", "second"),
        Unit::Minute => "minute",
        Unit::Hour => one_of(lang, "heure", "hour"),
        Unit::Day => one_of(lang, "jour", "day"),
    };
    // French counts zero as singular; zero never comes here.
    let plural = if count == 1 { "" } else { "s" };
    format!("{count}\u{a0}{name}{plural}")
}

fn one_of(lang: Lang, fr: &'static str, en: &'static str) -> &'static str {
    match lang {
        Lang::Fr => fr,
        Lang::En => en,
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Lang::En, Lang::Fr, Text, ago, remaining, wait};

    #[test]
    fn every_sentence_is_there_and_translated() {
        for (name, fr, en) in Text::TABLE {
            assert!(!fr.trim().is_empty() && !en.trim().is_empty(), "{name} is empty");
            assert_ne!(fr, en, "{name} is not translated");
        }
    }

    #[test]
    fn typography() {
        for (name, fr, en) in Text::TABLE {
            for text in [fr, en] {
                assert!(!text.contains('\''), "{name}: typewriter apostrophe");
                assert!(!text.contains("  "), "{name}: two spaces");
            }
            for mark in [" :", " ;", " ?", " !"] {
                assert!(!fr.contains(mark), "{name}: breaking space before{mark}");
            }
            let bare = |mark: char| {
                fr.match_indices(mark).any(|(at, _)| !fr[..at].ends_with(['\u{a0}', '\u{202f}']))
            };
            assert!(![':', ';', '?', '!'].into_iter().any(bare), "{name}: no space before the mark");
            assert!(!en.contains(['\u{a0}', '\u{202f}']), "{name}: French spacing in English");
        }
    }

    #[test]
    fn times_in_words() {
        let table = [
            (0, "à l’instant", "just now"),
            (29, "à l’instant", "just now"),
            (30, "il y a moins d’une minute", "less than a minute ago"),
            (60, "il y a 1\u{a0}minute", "1\u{a0}minute ago"),
            (179, "il y a 2\u{a0}minutes", "2\u{a0}minutes ago"),
            (3600, "il y a 1\u{a0}heure", "1\u{a0}hour ago"),
            (2 * 86_400, "il y a 2\u{a0}jours", "2\u{a0}days ago"),
        ];
        for (secs, fr, en) in table {
            assert_eq!(ago(Fr, Duration::from_secs(secs)), fr);
            assert_eq!(ago(En, Duration::from_secs(secs)), en);
        }
        assert_eq!(wait(Fr, Duration::ZERO), "1\u{a0}seconde");
        assert_eq!(wait(En, Duration::from_millis(1001)), "2\u{a0}seconds");
        assert_eq!(wait(Fr, Duration::from_secs(90)), "90\u{a0}secondes");
        assert_eq!(wait(Fr, Duration::from_secs(91)), "2\u{a0}minutes");
        assert_eq!(wait(En, Duration::from_secs(5401)), "2\u{a0}hours");
        assert_eq!(remaining(Fr, Duration::from_secs(59)), "moins d’une minute");
        assert_eq!(remaining(En, Duration::from_secs(59)), "less than a minute");
        assert_eq!(remaining(En, Duration::from_secs(299)), "4\u{a0}minutes");
        assert!(!wait(En, Duration::MAX).is_empty() && !ago(Fr, Duration::MAX).is_empty());
    }
}
